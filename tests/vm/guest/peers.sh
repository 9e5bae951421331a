#!/bin/bash
# Kernel peers of a pool, in one guest: each is a disk with two copies, of which every write goes over this guest's own
# network. As: bash peers.sh PEER DISK DISK NUMBER, prints the device. NUMBER, from 1, keeps peers apart. Nothing is ever
# taken down: it goes with the guest.
set -eu
peer=$1 disks=("$2" "$3") number=$4
address=$GUEST_ADDRESS
export MDADM_NO_UDEV=1

# An NVMe-oF target for DISK, as subsystem NAME on PORT, and the host's connection to it. Prints the host's device.
# Written to the kernel's own files: nvmetcli and nvme-cli are thin wrappers of them.
nvme_over() { # rdma|tcp DISK NAME PORT
  local target=/sys/kernel/config/nvmet subsystem port answer i
  modprobe "nvmet-$1" && modprobe "nvme-$1"
  subsystem=$target/subsystems/$3 port=$target/ports/$4
  mkdir "$subsystem" "$subsystem/namespaces/1" "$port"
  echo 1 >"$subsystem/attr_allow_any_host"
  echo "$2" >"$subsystem/namespaces/1/device_path"
  echo 1 >"$subsystem/namespaces/1/enable"
  echo "$1" >"$port/addr_trtype"
  echo ipv4 >"$port/addr_adrfam"
  echo "$address" >"$port/addr_traddr"
  echo "$4" >"$port/addr_trsvcid"
  ln -s "$subsystem" "$port/subsystems/$3"
  exec 5<>/dev/nvme-fabrics
  echo "transport=$1,traddr=$address,trsvcid=$4,nqn=$3" >&5
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
md_over() { # BITMAP DEVICE DEVICE
  modprobe raid1
  mdadm --create "/dev/md$number" --run --level=1 --raid-devices=2 --metadata=1.2 --assume-clean --bitmap="$1" \
    "$2" "$3" >/run/mdadm.log 2>&1 || { cat /run/mdadm.log >&2; return 1; }
  echo "/dev/md$number"
}

# Both nodes of a DRBD 8.4 pair are here, as minors N and N + 1, and speak over TCP. drbdadm would want two hosts.
drbd_over() { # DISK DISK
  local setup=/usr/lib/drbd/drbdsetup-84 minor=$((2 * number)) i
  local ends=("ipv4:$address:$((7000 + minor))" "ipv4:$address:$((7001 + minor))")
  modprobe drbd
  for i in 0 1; do
    # drbdmeta asks before it writes, and asks again where it has found something.
    { yes yes || true; } | drbdmeta --force $((minor + i)) v08 "${disks[$i]}" internal create-md >/run/drbd.log 2>&1
    "$setup" new-resource "r$((minor + i))"
    "$setup" new-minor "r$((minor + i))" $((minor + i)) 0
    "$setup" attach $((minor + i)) "${disks[$i]}" "${disks[$i]}" internal
    "$setup" connect "r$((minor + i))" "${ends[$i]}" "${ends[1 - i]}" --protocol=C --max-buffers=8000 --max-epoch-size=8000
  done
  for ((i = 0; i < 300; i++)); do
    [ "$("$setup" cstate $minor)" = Connected ] && break
    sleep 0.1
  done
  "$setup" new-current-uuid --clear-bitmap $minor
  "$setup" primary $minor
  echo "/dev/drbd$minor"
}

# RNBD maps a disk of a server, which is this guest, by its path.
rnbd_over() { # DISK SESSION
  local device
  modprobe rnbd_server dev_search_path=/dev && modprobe rnbd_client
  echo "sessname=$2 path=ip:$address@ip:$address device_path=${1#/dev/} access_mode=rw" \
    >/sys/class/rnbd-client/ctl/map_device
  for device in /sys/block/rnbd*; do
    if [ "$(cat "$device/rnbd/session") $(cat "$device/rnbd/mapping_path")" = "$2 ${1#/dev/}" ]; then
      echo "/dev/${device##*/}"
      return
    fi
  done
  return 1
}

case $peer in
  md-nvme-rdma | md-nvme-rdma-bitmap | md-nvme-tcp)
    way=${peer#md-nvme-} way=${way%-bitmap}
    one=$(nvme_over "$way" "$2" "peer$number-a" $((4400 + 2 * number)))
    two=$(nvme_over "$way" "$3" "peer$number-b" $((4401 + 2 * number)))
    case $peer in *-bitmap) md_over internal "$one" "$two" ;; *) md_over none "$one" "$two" ;; esac
    ;;
  md-rnbd)
    one=$(rnbd_over "$2" "peer$number-a")
    two=$(rnbd_over "$3" "peer$number-b")
    md_over none "$one" "$two"
    ;;
  drbd) drbd_over ;;
  *) echo "there is no peer $peer" >&2; exit 2 ;;
esac
