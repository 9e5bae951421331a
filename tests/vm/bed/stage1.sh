#!/bin/busybox sh
# A guest's first program, in its initramfs: loads modules, mounts the host's root read-only with a tmpfs over it, goes
# there. All that the static busybox can do is done here: starting a dynamic program costs 0.1 s under emulation.
b=/bin/busybox
fail() {
  echo "brmr-vm: $*"
  $b poweroff -f
}
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
for module in $($b cat /modules/list); do $b insmod "/modules/$module" || echo "brmr-vm: insmod $module failed"; done
$b mkdir /dev/pts /dev/shm /dev/virtio-ports
$b mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
$b mount -t tmpfs -o mode=1777 tmpfs /dev/shm
$b ln -s /proc/self/fd /dev/fd
$b ln -s fd/0 /dev/stdin
$b ln -s fd/1 /dev/stdout
$b ln -s fd/2 /dev/stderr
for port in /sys/class/virtio-ports/*; do
  read -r name 2>/dev/null <"$port/name" && $b ln -s "/dev/${port##*/}" "/dev/virtio-ports/$name"
done
$b mount -t configfs configfs /sys/kernel/config
$b mount -t debugfs debugfs /sys/kernel/debug

. /guest/env
share() { # TAG DIRECTORY OPTIONS
  $b mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,$3" "$1" "$2"
}
share root /lower ro,cache=loose || fail "cannot mount the host's root"
lower=/lower
if [ "$GUEST_HAS_LAYER" = 1 ]; then
  share layer /layer ro,cache=loose || fail "cannot mount the layer"
  lower=/layer:/lower
fi
$b mount -t tmpfs -o size=80%,mode=755 tmpfs /rw
$b mkdir /rw/upper /rw/work
$b mount -t overlay -o "lowerdir=$lower,upperdir=/rw/upper,workdir=/rw/work" overlay /new || fail "cannot mount the overlay"
$b mount -t tmpfs -o mode=755 tmpfs /new/run
$b mkdir -p /new/run/guest /new/run/lock
$b cp /guest/* /new/run/guest/
$b mkdir -p "/new/lib/modules/${GUEST_MODULES##*/}"
$b mount --bind "/new$GUEST_MODULES" "/new/lib/modules/${GUEST_MODULES##*/}"
# Where the host puts commands and finds their output: every read and write goes to the host's file at once.
$b mkdir -p "/new$GUEST_DIRECTORY"
share exchange "/new$GUEST_DIRECTORY" cache=none || fail "cannot mount the exchange directory"

echo "guest$GUEST_NUMBER" >/proc/sys/kernel/hostname
echo "127.0.0.1 localhost" >/new/etc/hosts
i=1
while [ $i -le "$GUEST_COUNT" ]; do
  echo "10.77.0.$i guest$i" >>/new/etc/hosts
  i=$((i + 1))
done
$b ip link set lo up
k=0
while [ $k -lt "$GUEST_NICS" ]; do
  echo 0 >/proc/sys/net/ipv6/conf/eth$k/accept_dad
  $b ip link set eth$k mtu "$GUEST_MTU" up
  $b ip addr add "10.77.$k.$GUEST_NUMBER/24" dev eth$k
  k=$((k + 1))
done
for directory in proc sys dev; do $b mount --move /$directory /new/$directory; done
exec $b switch_root /new /bin/bash /run/guest/agent.sh
