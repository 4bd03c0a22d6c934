"""An image of Kafka from this machine's own Java, C library and jars: for tests where no registry can be reached.

It takes its settings as the apache/kafka image does: KAFKA_* variables and CLUSTER_ID, data in /var/lib/kafka/data,
and a user without rights.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from pathlib import Path

from playhead.dev.java import Java

USER_ID = 1000
_SCRIPT = """\
#!/bin/bash
for name in "${!KAFKA_@}"; do
    case $name in KAFKA_HEAP_OPTS | KAFKA_LOG4J_*) continue ;; esac
    key=${name#KAFKA_}
    key=${key//_/.}
    printf '%s=%s\\n' "${key,,}" "${!name}"
done >/tmp/server.properties
run=(/java/bin/java $KAFKA_HEAP_OPTS -XX:+UseParallelGC -XX:TieredStopAtLevel=1 -cp '/libs/*')
"${run[@]}" kafka.tools.StorageTool format --ignore-formatted \
    -t "${CLUSTER_ID:-5L6g3nShT-eMCtK--X86sw}" -c /tmp/server.properties || exit
exec "${run[@]}" kafka.Kafka /tmp/server.properties
"""


def build_kafka_image(docker: Path, tag: str, *, java: Java, libs: Path, work_dir: Path) -> None:
    """Import a root file system of only that as the image `tag`.

    Raises:
        subprocess.CalledProcessError: docker refused it.
    """
    java_home = java.path.resolve().parent.parent
    bash = Path("/bin/bash")
    java_files = _files_of(java_home)
    root = work_dir / "root.tar"
    with tarfile.open(root, "w", dereference=True) as tar:
        for file in java_files:
            tar.add(file, f"java/{file.relative_to(java_home)}")
        tar.add(libs, "libs")
        tar.add(bash, "bin/bash")
        programs = [file for file in java_files if file.suffix == ".so" or file == java_home / "bin" / "java"]
        for library in _shared_libraries([bash, *programs]) - set(java_files):
            tar.add(library, str(library).lstrip("/"))
        _add(tar, "start", _SCRIPT.encode(), mode=0o755)
        _add(tar, "etc/passwd", f"kafka:x:{USER_ID}:{USER_ID}::/tmp:/bin/bash\n".encode(), mode=0o644)
        _add_folder(tar, "tmp", mode=0o1777)
        _add_folder(tar, "var/lib/kafka/data", mode=0o755, owner=USER_ID)
    changes = ['ENTRYPOINT ["/start"]', f"USER {USER_ID}:{USER_ID}"]
    options = [part for change in changes for part in ("--change", change)]
    subprocess.run([docker, "import", *options, root, tag], check=True, capture_output=True)
    root.unlink()


def _files_of(java_home: Path) -> list[Path]:
    """Its files, without what only building needs, and without links that lead nowhere (Debian has some)."""
    files = [
        Path(folder, name)
        for folder, _folders, names in os.walk(java_home, followlinks=True)
        if not {"jmods", "demo", "man"} & set(Path(folder).relative_to(java_home).parts)
        for name in names
    ]
    return [file for file in files if file.is_file()]


def _shared_libraries(files: list[Path]) -> set[Path]:
    """What the loader would bring for `files`, and the loader, at the paths where it looks for them."""
    said = subprocess.run(["ldd", *map(str, files)], capture_output=True, text=True, check=False).stdout
    return {Path(path) for path in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", said, re.MULTILINE)}


def _add(tar: tarfile.TarFile, name: str, content: bytes, *, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    tar.addfile(info, io.BytesIO(content))


def _add_folder(tar: tarfile.TarFile, name: str, *, mode: int, owner: int = 0) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, mode, owner, owner
    tar.addfile(info)
