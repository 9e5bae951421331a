#!/bin/bash
# A pool over RDMA in one guest that is client and both nodes: written, verified, a node killed and started again, idle, legs
# compared. Runs in a guest as: DENO=/path/to/deno BRMR=/path/to/brmr.js bash tests/vm/guest/rdma_pool.sh
# Prints what it finds; ends with 0 only when all of it holds.
set -u -o pipefail
here=$(mktemp -d)
export NO_COLOR=1 XDG_RUNTIME_DIR=$here
address=$GUEST_ADDRESS
export BRMR_NODES=$address:7701,$address:7702
# Not a function: what runs in the background is to be the process itself, for it is killed and its time is counted.
brmr=("$DENO" run --no-prompt --no-check --allow-ffi --allow-read --allow-write --allow-env --allow-net --allow-run
  --allow-sys=hostname,uid "$BRMR")
fail() {
  echo "FAILED: $*"
  tail -n 20 "$here"/*.log
  exit 1
}
wait_for() { # SECONDS COMMAND...
  local i
  for ((i = 0; i < $1 * 5; i++)); do "${@:2}" && return; sleep 0.2; done
  return 1
}
serve() { # NODE
  # One of the two sums what it sends, so that both kinds of payload are read and pulled.
  local sums=auto
  [ "$1" = 2 ] && sums=always
  "${brmr[@]}" serve --insecure --payload-crc $sums --state "$here/node$1" --listen "tcp://$address:770$1" \
    --listen "rdma://$address:770$1" >"$here/node$1.log" 2>&1 &
  node[$1]=$!
  wait_for 120 grep -q "^ready rdma" "$here/node$1.log" || fail "node $1 does not listen"
}
# fio does not stop at an error of its own accord.
verify() { # NAME OFFSET
  fio --name="$1" --ioengine=nbd "--uri=nbd+unix:///vol1?socket=$here/vol1.sock" --rw=randwrite --bs=4k --iodepth=32 \
    --size=16M --offset="$2" --verify=crc32c --do_verify=1 --verify_fatal=1 --output="$here/fio-$1.log" ||
    fail "fio $1"
  grep -E "IOPS=" "$here/fio-$1.log"
}
in_sync() { "${brmr[@]}" status vol1 >"$here/status.log" 2>&1; }

node=()
serve 1
serve 2
"${brmr[@]}" pool create vol1 --size 128M --leg "$address:7701:$here/a.img" --leg "$address:7702:$here/b.img" || fail "create"
"${brmr[@]}" attach vol1 --transport "${TRANSPORT:-rdma}" --nbd "$here/vol1.sock" >"$here/client.log" 2>&1 &
client=$!
wait_for 120 grep -q "^ready" "$here/client.log" || fail "attach"

verify both 0
in_sync || fail "not in sync"
cat "$here/status.log"
[ "$(grep -c "RDMA on rxe0" "$here/status.log")" = 2 ] || fail "status shows both legs over RDMA"

kill -9 "${node[2]}"
wait "${node[2]}" 2>/dev/null
verify degraded 8M
in_sync && fail "a killed node counts as in sync"
serve 2
wait_for 120 in_sync || fail "leg 1 does not come back in sync"
grep -q "Leg 0 is reached by RDMA on rxe0" "$here/node2.log" || fail "what leg 1 missed came from leg 0 by RDMA"
[ "$(grep -c "RDMA on rxe0" "$here/status.log")" = 2 ] || fail "the leg came back over RDMA"

# user and system time in ticks of 10 ms
ticks() { awk '{ print $14 + $15 }' "/proc/$client/stat"; }
sleep 3
before=$(ticks)
sleep 10
echo "idle: $(($(ticks) - before)) ticks in 10 s"

"${brmr[@]}" detach vol1 || fail "detach"
wait "$client" || fail "the client ends with $?"
kill "${node[1]}" "${node[2]}"
wait
cmp <(tail -c 128M "$here/a.img") <(tail -c 128M "$here/b.img") || fail "legs differ"
echo "legs are identical"
