/**
 * What a block device must be good for, whichever driver it is of. Every function throws when it is not.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { GuestPool } from "./brmr.ts";
import { type FileSystem, MOUNT_POINT, mountNew, unmountChecked } from "./file_systems.ts";
import { runFioJobs } from "./fio.ts";
import type { Guest } from "./guest.ts";

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
  await step(
    "fio finds what it wrote: in blocks of all sizes, over trims, with flushes, with FUA",
    () => expectFio(guest, device),
  );
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

/** What a driver tells of discards and of zeroes that are not sent. */
export async function expectLimits(guest: Guest, device: string, hasWriteZeroes: boolean): Promise<void> {
  const queue = `/sys/block/${device.slice("/dev/".length)}/queue`;
  assert.notEqual((await guest.expect(`cat ${queue}/discard_max_bytes`)).trim(), "0");
  const mostZeroes = Number(await guest.expect(`cat ${queue}/write_zeroes_max_bytes`));
  assert.equal(mostZeroes > 0, hasWriteZeroes, `at most ${mostZeroes} bytes of zeroes at a time`);
}

/** fio's checks of a block device: each job writes a range of its own and reads it back. */
export async function expectFio(guest: Guest, device: string): Promise<void> {
  // The sixteenth number of the kernel's statistics counts flushes.
  const flushCount = async () =>
    Number(await guest.expect(`awk '{ print $16 }' /sys/block/${device.slice("/dev/".length)}/stat`));
  const before = await flushCount();
  const common = `--filename=${device} --direct=1 --ioengine=libaio --iodepth=8 --verify=crc32c --verify_fatal=1 ` +
    "--do_verify=1 --randrepeat=0 --stonewall";
  const jobs = await runFioJobs(guest, common, [
    // In a range that begins elsewhere fio 3.33 does not find the place of a write after its trim.
    "--rw=randtrimwrite --bs=64k --size=16M",
    "--rw=randwrite --bsrange=4k-1M --offset=16M --size=32M",
    "--rw=randwrite --bs=4k --offset=48M --size=1M --fsync=8",
    "--rw=randwrite --bs=4k --offset=49M --size=1M --sync=dsync",
  ]);
  for (const job of jobs) {
    assert.equal(job.error, 0);
    assert.ok(job.write.io_kbytes > 0 && job.read.io_kbytes >= job.write.io_kbytes, "all that was written is read");
  }
  const [trims, , flushes] = jobs;
  assert.equal(trims.trim.total_ios, trims.write.total_ios);
  const seen = await flushCount() - before;
  const asked = flushes.sync.total_ios;
  assert.ok(asked > 0 && seen >= asked, `of ${asked} flushes the device has seen ${seen}`);
}

/** Discarded and zeroed ranges read as zeroes, their neighbours as before. */
export async function expectDiscards(guest: Guest, device: string): Promise<void> {
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
export async function expectFileSystem(guest: Guest, device: string, kind: FileSystem): Promise<void> {
  await mountNew(guest, device, kind);
  const sum = await guest.expect(`
    set -e
    head -c 8M /dev/urandom >${MOUNT_POINT}/file
    sync
    sha256sum <${MOUNT_POINT}/file`);
  await unmountChecked(guest, device, kind);
  const found = await guest.expect(`
    set -e
    mount ${device} ${MOUNT_POINT}
    sha256sum <${MOUNT_POINT}/file
    rm ${MOUNT_POINT}/file
    fstrim ${MOUNT_POINT}`);
  assert.equal(found, sum);
  await unmountChecked(guest, device, kind);
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
