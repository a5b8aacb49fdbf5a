# A client in plain shell: `syndicate-chaos` makes the calls. The job is `counter`, with at least one slave.
set -eu
slave=${SYNDICATE_SLAVES%%,*}

# How many starts a member has counted; asks again for up to 60 s while nobody listens yet.
starts() {
    python3 - "$1" <<'END'
import sys, time, urllib.request
until = time.monotonic() + 60
while True:
    try:
        print(len(urllib.request.urlopen(f"http://{sys.argv[1]}:7000/starts", timeout=1).read().splitlines()))
        break
    except OSError:
        if time.monotonic() > until:
            sys.exit("no answer")
        time.sleep(0.02)
END
}

before=$(starts "$slave")
syndicate-chaos disconnect "$slave"
syndicate-chaos reconnect "$slave"
syndicate-chaos kill "$slave"
syndicate-chaos revive "$slave" --without-disk
after=$(starts "$slave")

echo "$slave: starts counted before: $before, after its disk was lost: $after"
if [ "$after" = 1 ]; then
    syndicate-chaos finish --outcome pass --score 1 --metric starts="$after" --text "the disk was fresh"
else
    syndicate-chaos finish --outcome fail --score 0 --metric starts="$after" --text "the disk was kept"
fi
