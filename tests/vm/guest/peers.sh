#!/bin/bash
# The parts of which kernel peers of a pool are made, each in the guest where it belongs. As: bash peers.sh PART ARGUMENT...
# Parts that make a device print it. Nothing is ever taken down: it goes with the guest.
set -eu
export MDADM_NO_UDEV=1
drbdsetup=/usr/lib/drbd/drbdsetup-84

# An NVMe-oF target for DISK, as subsystem NAME on PORT of this guest. Written to the kernel's own files: nvmetcli is a
# thin wrapper of them.
nvme_target() { # rdma|tcp DISK NAME PORT
  local target=/sys/kernel/config/nvmet subsystem port
  modprobe "nvmet-$1"
  subsystem=$target/subsystems/$3 port=$target/ports/$4
  mkdir "$subsystem" "$subsystem/namespaces/1" "$port"
  echo 1 >"$subsystem/attr_allow_any_host"
  echo "$2" >"$subsystem/namespaces/1/device_path"
  echo 1 >"$subsystem/namespaces/1/enable"
  echo "$1" >"$port/addr_trtype"
  echo ipv4 >"$port/addr_adrfam"
  echo "$GUEST_ADDRESS" >"$port/addr_traddr"
  echo "$4" >"$port/addr_trsvcid"
  ln -s "$subsystem" "$port/subsystems/$3"
}

# This guest's connection to a target. Prints the device. nvme-cli is a thin wrapper of the file, too.
nvme_host() { # rdma|tcp ADDRESS NAME PORT [OPTION,...]
  local answer i
  modprobe "nvme-$1"
  exec 5<>/dev/nvme-fabrics
  echo "transport=$1,traddr=$2,trsvcid=$4,nqn=$3${5:+,$5}" >&5
  read -r answer <&5 # "instance=N,cntlid=M"
  exec 5>&-
  answer=${answer#instance=}
  for ((i = 0; i < 200; i++)); do
    for device in "/sys/class/nvme/nvme${answer%%,*}"/nvme*n1; do
      # With multipath the path is nvmeXcYn1, and the disk nvmeXn1.
      device=/dev/$(basename "$device" | sed 's/c[0-9]*n/n/')
      if [ -b "$device" ]; then echo "$device"; return; fi
    done
    sleep 0.1
  done
  echo "no device for $3" >&2
  return 1
}

# raid1 of two devices that are equal already.
md_mirror() { # NUMBER internal|none DEVICE DEVICE
  modprobe raid1
  mdadm --create "/dev/md$1" --run --level=1 --raid-devices=2 --metadata=1.2 --assume-clean --bitmap="$2" \
    "$3" "$4" >/run/mdadm.log 2>&1 || { cat /run/mdadm.log >&2; return 1; }
  echo "/dev/md$1"
}

# One node of a DRBD 8.4 pair, which speaks over TCP. drbdadm would want one node for each host, both by name.
drbd_node() { # MINOR DISK OWN-ADDRESS:PORT PEER-ADDRESS:PORT
  modprobe drbd
  # drbdmeta asks before it writes, and asks again where it has found something.
  { yes yes || true; } | drbdmeta --force "$1" v08 "$2" internal create-md >/run/drbd.log 2>&1
  "$drbdsetup" new-resource "r$1"
  "$drbdsetup" new-minor "r$1" "$1" 0
  "$drbdsetup" attach "$1" "$2" "$2" internal
  "$drbdsetup" connect "r$1" "ipv4:$3" "ipv4:$4" --protocol=C --max-buffers=8000 --max-epoch-size=8000
}

# Makes a node the primary of its pair, whose copies are equal already.
drbd_lead() { # MINOR
  local i
  for ((i = 0; i < 300; i++)); do
    [ "$("$drbdsetup" cstate "$1")" = Connected ] && break
    sleep 0.1
  done
  "$drbdsetup" new-current-uuid --clear-bitmap "$1"
  "$drbdsetup" primary "$1"
  echo "/dev/drbd$1"
}

# RNBD serves all disks of a guest, by their paths.
rnbd_server() {
  modprobe rnbd_server dev_search_path=/dev
}

rnbd_map() { # ADDRESS DISK SESSION
  local device
  modprobe rnbd_client
  echo "sessname=$3 path=ip:$GUEST_ADDRESS@ip:$1 device_path=${2#/dev/} access_mode=rw" \
    >/sys/class/rnbd-client/ctl/map_device
  for device in /sys/block/rnbd*; do
    if [ "$(cat "$device/rnbd/session") $(cat "$device/rnbd/mapping_path")" = "$3 ${2#/dev/}" ]; then
      echo "/dev/${device##*/}"
      return
    fi
  done
  return 1
}

case $1 in
  nvme_target | nvme_host | md_mirror | drbd_node | drbd_lead | rnbd_server | rnbd_map) "$@" ;;
  *) echo "there is no part $1" >&2; exit 2 ;;
esac
