# Runs a command for as long as its parent lives:   sh guard.sh GRACE_SECONDS COMMAND...
#
# Standard input is a lifeline: a pipe whose write end only the parent holds. It ends when the parent closes it or dies,
# even by kill -9. Then the command gets SIGTERM, and SIGKILL if it is still there after GRACE_SECONDS.
# Exits with the command's code as soon as the command has ended, and leaves nothing behind.
grace_seconds=$1
shift
exec 9<&0 </dev/null
"$@" 9<&- &
child=$!
(
    read -r _ <&9
    # $! is the nap from the moment it exists (the command before there is one); waiting for it leaves nothing behind.
    trap '[ "$!" = "$child" ] || kill "$!"; wait; exit 0' TERM
    kill -TERM "$child"
    waited_seconds=0
    while kill -0 "$child" && [ "$waited_seconds" -lt "$grace_seconds" ]; do
        sleep 1 &
        wait "$!"
        waited_seconds=$((waited_seconds + 1))
    done
    kill -KILL "$child"
) 2>/dev/null &
watch=$!
exec 9<&-
trap 'kill -TERM "$child"' TERM INT HUP
while :; do
    wait "$child"
    code=$?
    # A signal ends `wait` early; the command is gone only once the shell has reaped it.
    kill -0 "$child" 2>/dev/null || break
done
kill -TERM "$watch" 2>/dev/null
wait "$watch"
exit "$code"
