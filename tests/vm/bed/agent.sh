#!/bin/bash
# A guest's second program: soft-RoCE, more modules, and then the host's commands, which come one a line.
#   run ID          runs the script ID/script of the exchange directory; its output goes to ID/out and ID/err beside it
#   signal ID NAME  sends a signal to the process group of a command that runs
# Answers: "ready" once, "done ID STATUS" for each command.
. /run/guest/env
exec 9<>/dev/virtio-ports/control 2>/dev/console || exit 1
for module in $GUEST_EXTRA_MODULES; do modprobe "$module" || echo "brmr-vm: no module $module"; done >/dev/console 2>&1
if [ "$GUEST_RDMA" = 1 ]; then
  for ((k = 0; k < GUEST_NICS; k++)); do
    rdma link add "rxe$k" type rxe netdev "eth$k" >/dev/console 2>&1 || echo "brmr-vm: no rxe on eth$k" >/dev/console
  done
fi
export GUEST_NUMBER GUEST_COUNT GUEST_ADDRESS=10.77.0.$GUEST_NUMBER
ulimit -l unlimited
ulimit -n 65536
cd "$GUEST_WORKING_DIRECTORY" 2>/dev/null || cd /
mkdir /run/guest/processes

run() { # ID
  local at=$GUEST_DIRECTORY/$1
  setsid bash "$at/script" </dev/null >>"$at/out" 2>>"$at/err" 9>&- &
  echo $! >"/run/guest/processes/$1"
  wait $!
  local status=$?
  rm "/run/guest/processes/$1"
  echo "done $1 $status" >&9
}

echo ready >&9
while read -r verb id signal <&9; do
  case $verb in
    run) run "$id" & ;;
    signal) read -r process 2>/dev/null <"/run/guest/processes/$id" && kill -s "$signal" -- "-$process" 2>/dev/null ;;
  esac
done
