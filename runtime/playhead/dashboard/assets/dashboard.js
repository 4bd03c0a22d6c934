// What the pages need beside htmx: everything here adds to pages that also work without it.
"use strict";

(() => {
  const root = document.documentElement;
  const $ = (selector, within = document) => within.querySelector(selector);

  // ── live: the server says that history moved on; the page then asks for its parts anew ──────────────────────────────
  const REFRESH_MS = 1000;
  const RETRY_MS = 2000;
  let source = null, retry = null, moved = false, refreshing = null, lastId = "";

  function show(state, word) {
    const shown = $("#connection");
    if (shown.dataset.state === state) return;
    shown.dataset.state = state;
    $(".word", shown).textContent = word;
  }

  function connect() {
    clearTimeout(retry);
    if (source) source.close();
    source = new EventSource("/live");
    source.addEventListener("position", (event) => {
      show("live", "Live");
      if (lastId && event.data !== lastId) wantRefresh();
      lastId = event.data;
    });
    source.onerror = () => {
      show("lost", "Connection lost, trying again");
      source.close();
      retry = setTimeout(connect, RETRY_MS);
    };
  }

  function disconnect() {
    clearTimeout(retry);
    if (source) source.close();
    source = null;
  }

  function wantRefresh() {
    moved = true;
    if (refreshing === null) refreshing = setTimeout(refresh, REFRESH_MS / 4);
  }

  async function refresh() {
    moved = false;
    try {
      if ($("#main[data-live]")) {
        await htmx.ajax("GET", location.pathname + location.search, { target: "#main", select: "#main", swap: "morph:outerHTML" });
        countChecked(); // rows may have come and gone
      }
    } finally {
      refreshing = setTimeout(() => {
        refreshing = null;
        if (moved) wantRefresh();
      }, REFRESH_MS);
    }
  }

  // A browser keeps six connections to a server: pages that nobody sees give theirs back, and catch up when they are seen.
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  window.addEventListener("pagehide", disconnect);
  window.addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
  // What nothing in history tells: how long ago things were, and the connection to the broker.
  setInterval(() => { if (!document.hidden && source && source.readyState === 1) wantRefresh(); }, 20000);

  // What a person has set stays as it is when a part is replaced: what is open, ticked, chosen.
  const KEPT = { DETAILS: ["open"], INPUT: ["checked", "value"], DIALOG: ["open"], HTML: ["data-theme"] };
  Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, element) => !(KEPT[element.tagName] || []).includes(name);
  const LEFT_ALONE = "select, textarea, .readout, button[data-many]";
  Idiomorph.defaults.callbacks.beforeNodeMorphed = (old) => !(old.nodeType === 1 && old.matches(LEFT_ALONE));
  Idiomorph.defaults.callbacks.afterNodeAdded = (node) => {
    if (node.nodeType === 1 && node.matches("tr[id]")) node.classList.add("new");
  };

  // ── dialogs: pages with one sheet, shown on top ─────────────────────────────────────────────────────────────────────
  const dialog = $("#dialog");
  let opener = null;

  document.addEventListener("click", async (event) => {
    const link = event.target.closest("a[data-dialog], button[data-dialog]");
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0) {
      event.preventDefault();
      await openDialog(addressOf(link), link);
      return;
    }
    if (event.target.closest("[data-close]") && dialog.open) {
      event.preventDefault();
      dialog.close();
    }
    if (event.target === dialog) dialog.close(); // the backdrop
  });

  function addressOf(link) {
    if (!link.form) return link.href;
    const query = new URLSearchParams(new FormData(link.form)).toString();
    return (link.getAttribute("formaction") || link.form.action) + "?" + query;
  }

  async function openDialog(address, from) {
    opener = from;
    await htmx.ajax("GET", address, { target: "#dialog", select: ".sheet", swap: "innerHTML" });
    if (!$(".sheet", dialog)) { location.href = address; return; }
    if (!dialog.open) dialog.showModal();
    focusIn(dialog);
  }

  function focusIn(within) {
    const wanted = $("[aria-invalid=true]", within) || $("[autofocus]", within) || $("input, select, textarea, button", within);
    if (wanted) wanted.focus();
  }

  dialog.addEventListener("close", () => {
    dialog.replaceChildren();
    if (opener && opener.isConnected) opener.focus();
    opener = null;
  });

  // After settling: htmx itself focuses what has autofocus before.
  document.addEventListener("htmx:afterSettle", (event) => {
    const sheet = event.target.closest && event.target.closest(".sheet");
    if (!sheet) return;
    const title = $("h2", sheet);
    if (title && dialog.contains(sheet)) dialog.setAttribute("aria-label", title.textContent);
    focusIn(sheet);
  });
  document.addEventListener("change", (event) => {
    const name = event.target;
    if (!name.matches("[data-event-name]")) return;
    const isKnown = [...name.list.options].some((option) => option.value === name.value);
    const hasForm = $("input[name=mode]", name.form).value === "form";
    if (!isKnown && !hasForm) return; // what was typed as JSON stays
    const address = "/send?" + new URLSearchParams({ event: name.value });
    htmx.ajax("GET", address, { target: name.closest(".sheet"), select: ".sheet", swap: "outerHTML" });
  });
  document.addEventListener("htmx:responseError", (event) => tell("The server answered " + event.detail.xhr.status + "."));
  document.addEventListener("htmx:sendError", (event) => {
    if (event.target === dialog || event.target.closest("form")) tell("The server can't be reached; nothing was done.");
  });

  function tell(text) { $("#told").textContent = text; }

  // ── lists ───────────────────────────────────────────────────────────────────────────────────────────────────────────
  document.addEventListener("change", (event) => {
    const box = event.target;
    if (box.matches("[data-check-all]")) {
      for (const other of box.closest("table").querySelectorAll("tbody input[type=checkbox]")) other.checked = box.checked;
    }
    if (box.matches("input[type=checkbox]")) countChecked();
    if (box.matches("[data-submits]")) box.form.requestSubmit();
  });

  function countChecked() {
    const count = document.querySelectorAll("tbody input[type=checkbox][form=many]:checked").length;
    for (const button of document.querySelectorAll("button[data-many]")) {
      button.disabled = count === 0;
      $("span", button).textContent = count ? ` (${count})` : "";
    }
  }

  document.addEventListener("submit", (event) => {
    if (event.target.method !== "get") return;
    for (const field of event.target.elements) if (field.name && field.value === "") field.disabled = true; // short addresses
    setTimeout(() => { for (const field of event.target.elements) if (field.value === "") field.disabled = false; });
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    if (event.target.closest("input, select, textarea, [contenteditable]")) return;
    const filter = $("[data-filter]");
    if (filter) { event.preventDefault(); filter.focus(); filter.select && filter.select(); }
  });

  // ── forms made from a schema: items of arrays ───────────────────────────────────────────────────────────────────────
  document.addEventListener("click", (event) => {
    const add = event.target.closest("[data-add]");
    if (add) {
      const list = add.closest("[data-list]");
      const items = $("[data-items]", list);
      const next = String(items.dataset.next);
      items.dataset.next = Number(next) + 1;
      const made = document.createElement("template");
      made.innerHTML = $("template", list).innerHTML.replaceAll(list.dataset.list, next);
      const item = made.content.firstElementChild;
      items.append(item);
      focusIn(item);
    }
    const remove = event.target.closest("[data-remove]");
    if (remove) {
      const list = remove.closest("[data-list]");
      remove.closest(".item").remove();
      $("[data-add]", list).focus();
    }
  });

  // ── charts: the values under the pointer, in words ──────────────────────────────────────────────────────────────────
  document.addEventListener("pointerover", (event) => {
    const hit = event.target.closest && event.target.closest(".hit[data-say]");
    if (!hit) return;
    const readout = $(".readout", hit.closest("figure"));
    if (readout) readout.textContent = hit.dataset.say;
  });
  document.addEventListener("pointerout", (event) => {
    const chart = event.target.closest && event.target.closest("figure.chart");
    if (chart && !chart.contains(event.relatedTarget)) $(".readout", chart).textContent = "";
  });

  // ── theme ───────────────────────────────────────────────────────────────────────────────────────────────────────────
  const theme = $("#theme");
  const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const nameTheme = () => theme.setAttribute("aria-label", isDark() ? "Light colours" : "Dark colours");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    document.cookie = `playhead_theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax`;
    nameTheme();
  });
  nameTheme();

  const current = $("nav [aria-current=page]");
  if (current) current.scrollIntoView({ inline: "nearest", block: "nearest" });
  if ($(".sheet [aria-invalid=true]")) focusIn($(".sheet")); // whoever is quicker than htmx gets a page of its own
  countChecked(); // what the browser kept ticked when one comes back
  connect();
})();
