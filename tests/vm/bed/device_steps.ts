/**
 * What a block device must be good for, whichever driver it is of. Every function throws when it is not.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { GuestPool } from "./brmr.ts";
import type { Guest } from "./guest.ts";

/** File systems: how to make and to check one. */
const FILE_SYSTEMS = {
  ext4: { make: "mkfs.ext4 -q -F", check: "e2fsck -f -n" },
  xfs: { make: "mkfs.xfs -q -f", check: "xfs_repair -n" },
} as const;

/** LVM without udev. */
const LVM_CONFIG = "devices { use_devicesfile=0 } " +
  "activation { udev_sync=0 udev_rules=0 verify_udev_operations=0 monitoring=0 }";

/** What every device must be good for, step by step. A detach that a volume stands in the way of is refused by name. */
export async function ordinarySteps(
  step: (name: string, body: () => Promise<void>) => Promise<void>,
  pool: GuestPool,
  guest: Guest,
  device: string,
): Promise<void> {
  await step("discarded and zeroed ranges read as zeroes", () => expectDiscards(guest, device));
  await step("ext4 keeps what is put into it", () => expectFileSystem(guest, device, "ext4"));
  await step("xfs keeps what is put into it", () => expectFileSystem(guest, device, "xfs"));
  await step("partitions appear", () => expectPartitions(guest, device));
  await step("LVM on it works, and a detach names it", () =>
    expectVolume(guest, device, async () => {
      assert.ok((await pool.failure(guest, `detach ${pool.name}`, 4)).includes(`${device} is held by dm-0.`));
    }));
}

/** The kernel lets nobody write to a device that is attached read-only; it reads as the pool does. */
export async function expectReadOnly(guest: Guest, device: string): Promise<void> {
  await guest.expect(`
    set -e
    [ "$(lsblk --noheadings --nodeps -o RO ${device} | tr -d ' ')" = 1 ]
    sum() { dd if=${device} bs=1M count=4 iflag=direct status=none | sha256sum; }
    before=$(sum)
    for command in "dd if=/dev/urandom of=${device} bs=4k count=1 oflag=direct" "blkdiscard -o 0 -l 1M ${device}" \
      "blkdiscard -z -o 0 -l 1M ${device}" "mkfs.ext4 -q -F ${device}"; do
      if $command 2>/tmp/refused; then echo "$command did not fail"; exit 1; fi
    done
    [ "$before" = "$(sum)" ]`);
}

/** Discarded and zeroed ranges read as zeroes, their neighbours as before. */
async function expectDiscards(guest: Guest, device: string): Promise<void> {
  await guest.expect(`
    set -e
    head -c 4M /dev/urandom >/tmp/random
    dd if=/tmp/random of=${device} bs=1M oflag=direct status=none
    blkdiscard -o 1M -l 1M ${device}
    blkdiscard -z -o 3M -l 512K ${device}
    cp /tmp/random /tmp/wanted
    dd if=/dev/zero of=/tmp/wanted bs=1M seek=1 count=1 conv=notrunc status=none
    dd if=/dev/zero of=/tmp/wanted bs=512K seek=6 count=1 conv=notrunc status=none
    dd if=${device} of=/tmp/got bs=1M count=4 iflag=direct status=none
    cmp /tmp/wanted /tmp/got`);
}

/** A file system keeps what is put into it, and gives back what is freed. */
async function expectFileSystem(guest: Guest, device: string, kind: keyof typeof FILE_SYSTEMS): Promise<void> {
  const { make, check } = FILE_SYSTEMS[kind];
  await guest.expect(`
    set -e
    modprobe ${kind}
    mkdir -p /mnt/pool
    ${make} ${device}
    mount -o discard ${device} /mnt/pool
    head -c 8M /dev/urandom >/mnt/pool/file
    sum=$(sha256sum </mnt/pool/file)
    sync
    umount /mnt/pool
    ${check} ${device}
    mount ${device} /mnt/pool
    [ "$sum" = "$(sha256sum </mnt/pool/file)" ]
    rm /mnt/pool/file
    fstrim /mnt/pool
    umount /mnt/pool`);
}

/** The kernel finds partitions, and they are devices of their own. */
async function expectPartitions(guest: Guest, device: string): Promise<void> {
  const name = device.slice("/dev/".length);
  await guest.expect(`
    set -e
    mkdir -p /mnt/pool
    modprobe ext4
    printf 'label: gpt\\nsize=32MiB\\nsize=64MiB\\n' | sfdisk -q ${device}
    blockdev --rereadpt ${device}
    [ "$(cat /sys/block/${name}/${name}p1/size)" = 65536 ]
    [ "$(cat /sys/block/${name}/${name}p2/size)" = 131072 ]
    mkfs.ext4 -q -F ${device}p2
    mount ${device}p2 /mnt/pool
    echo kept >/mnt/pool/file
    umount /mnt/pool
    e2fsck -f -n ${device}p2
    wipefs -q -a ${device}
    blockdev --rereadpt ${device}
    [ ! -e /sys/block/${name}/${name}p1 ]`);
}

/** A logical volume on it carries a file system. `whileHeld` runs with the volume in use. */
async function expectVolume(guest: Guest, device: string, whileHeld: () => Promise<void>): Promise<void> {
  const lvm = (command: string) => `${command} --config '${LVM_CONFIG}'`;
  await guest.expect(`
    set -e
    modprobe dm_mod
    modprobe ext4
    mkdir -p /mnt/pool
    ${lvm("pvcreate -q -y")} ${device}
    ${lvm("vgcreate -q")} brmrtest ${device}
    ${lvm("lvcreate -q -y -W n -Z n -L 64M -n data")} brmrtest
    mkfs.ext4 -q -F /dev/brmrtest/data
    mount /dev/brmrtest/data /mnt/pool
    echo kept >/mnt/pool/file
    umount /mnt/pool
    e2fsck -f -n /dev/brmrtest/data`);
  await whileHeld();
  await guest.expect(`${lvm("vgremove -q -f -y")} brmrtest && ${lvm("pvremove -q -y")} ${device}`);
}
