/** A pool as /dev/nbdN, in one guest that is client and both nodes; its names, and who may take it away. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { Bed } from "../bed/bed.ts";
import { GuestPool } from "../bed/brmr.ts";
import { expectLimits, expectReadOnly, ordinarySteps } from "../bed/device_steps.ts";
import { expectVerified, startFioVerify } from "../bed/fio.ts";
import type { Guest } from "../bed/guest.ts";

const SIZE_MIB = 320;
/** What the unit file leaves of root's powers. */
const UNIT_POWERS = "setpriv --bounding-set=-all,+sys_admin,+sys_resource --no-new-privs";
const UDEV = fileURLToPath(new URL("../../../examples/udev/", import.meta.url));

Deno.test("a pool is a block device by nbd, and outlives its process", async (t) => {
  await using bed = await Bed.open({ modules: ["nbd"], rdma: false, memoryMib: 2560 });
  const guest = bed.guest(1);
  await guest.expect("mkdir -p /data");
  const pool = await GuestPool.create(
    bed.directory,
    [{ guest, leg: "/data/a.img" }, { guest, leg: "/data/b.img" }],
    SIZE_MIB,
  );
  const device = await pool.attach(guest, "--device auto", UNIT_POWERS);
  const step = async (name: string, body: () => Promise<void>) => {
    const passed = await t.step(name, body);
    if (!passed) console.error(await pool.log(), await guest.console());
  };
  const list = async () => JSON.parse(await pool.brmr(guest, "list --json")).attachments;

  await step("the kernel is told its geometry", async () => {
    assert.equal(device, "/dev/nbd0");
    const columns = "SIZE,LOG-SEC,PHY-SEC,RO,DISC-GRAN,ROTA";
    assert.equal(
      (await guest.expect(`lsblk --bytes --noheadings --raw -o ${columns} ${device}`)).trim(),
      `${SIZE_MIB * 1048576} 4096 4096 0 4096 0`,
    );
    assert.equal(
      (await guest.expect("cd /sys/block/nbd0; cat queue/fua queue/write_cache queue/io_timeout")).trim(),
      "1\nwrite back\n5000",
    );
    await expectLimits(guest, device, await sendsZeroes(guest));
  });

  await ordinarySteps(step, pool, guest, device);

  await step("a mounted device is listed with its place, and left alone", async () => {
    await guest.expect(`mkfs.ext4 -q -F ${device} && mkdir -p "/mnt/a b" && mount /dev/brmr/vol1 "/mnt/a b"`);
    assert.match(await pool.failure(guest, `detach ${pool.name}`, 4), /\/dev\/nbd0 is mounted at \/mnt\/a b\./);
    const [attachment] = await list();
    assert.deepEqual([attachment.state, attachment.device], ["ready", device]);
    assert.deepEqual(attachment.uses, ["mounted at /mnt/a b"]);
    await guest.expect('umount "/mnt/a b"');
  });

  await step("attach is killed under fio and started again: the same device goes on", async () => {
    const fio = await startFioVerify(guest, device, 15);
    assert.equal(await pool.detach("KILL"), 137);
    const [attachment] = await list();
    assert.deepEqual([attachment.state, attachment.device], ["left", device]);
    assert.equal(await pool.attach(guest, "--device auto"), device);
    const { longestMs } = await expectVerified(fio);
    console.log(`the longest request took ${(longestMs / 1000).toFixed(2)} s`);
    await pool.waitInSync(guest);
  });

  await step("detach removes the device and its name, and leaves the legs identical", async () => {
    assert.equal(await pool.detach(), 0);
    assert.equal((await guest.expect("cat /sys/block/nbd0/size")).trim(), "0");
    await guest.expect("[ ! -e /dev/brmr/vol1 ]");
    assert.deepEqual(await list(), []);
    await pool.expectLegsIdentical();
  });

  await step("a read-only attach is a read-only device", async () => {
    const readOnly = await pool.attach(guest, "--device nbd --read-only");
    await expectReadOnly(guest, readOnly);
    assert.equal(await pool.detach(), 0);
  });

  await step("udev makes the names of the device and of its partitions", async () => {
    await guest.expect(`
      set -e
      mkdir -p /run/udev/rules.d /usr/local/lib/brmr
      cp ${UDEV}60-brmr.rules /run/udev/rules.d
      cp ${UDEV}pool-of-device /usr/local/lib/brmr
      /usr/lib/systemd/systemd-udevd --daemon
      udevadm control --ping`);
    assert.equal(await pool.attach(guest, "--device /dev/nbd5 --nbd-sockets 2"), "/dev/nbd5");
    await guest.expect(`
      set -e
      udevadm settle
      printf 'label: gpt\\nsize=32MiB\\n' | sfdisk -q /dev/nbd5
      udevadm settle
      [ "$(readlink -f /dev/brmr/vol1)" = /dev/nbd5 ]
      [ "$(readlink -f /dev/brmr/vol1-part1)" = /dev/nbd5p1 ]
      udevadm info /dev/nbd5 | grep -q 'S: brmr/vol1$'`);
  });

  await step("several sockets carry it, too", async () => {
    assert.equal((await guest.expect("ls /sys/block/nbd5/mq | wc -l")).trim(), "2");
    await guest.expect("udevadm settle; wipefs -q -a /dev/nbd5");
    await expectVerified(await startFioVerify(guest, "/dev/nbd5", 4));
  });

  await step("what a killed attach has left is removed by detach, and udev takes the name away", async () => {
    assert.equal(await pool.detach("KILL"), 137);
    const refused = await pool.failure(guest, `attach ${pool.name} --nbd /run/brmr/vol1.sock`, 4);
    assert.match(refused, /has left \/dev\/nbd5, and I\/O on it waits\. Take it over with --device \/dev\/nbd5/);
    assert.match(await pool.brmr(guest, `detach ${pool.name}`), /\/dev\/nbd5, which a dead attach .* is removed/);
    assert.equal((await guest.expect("cat /sys/block/nbd5/size")).trim(), "0");
    await guest.expect("udevadm settle; [ ! -e /dev/brmr/vol1 ]");
    assert.deepEqual(await list(), []);
  });

  await step(
    "a device that is still open when it is detached does not keep the pool from being attached again",
    async () => {
      const first = await pool.attach(guest, "--device nbd");
      const user = await guest.spawn(`exec 9<>${first}; echo open; exec sleep 1000`, "user");
      await user.waitFor(/open/);
      await pool.brmr(guest, `detach ${pool.name}`);
      assert.deepEqual(await list(), []);
      assert.notEqual(await pool.attach(guest, "--device nbd"), first);
      await user.stop();
      assert.equal(await pool.detach(), 0);
    },
  );
});

/** Whether the guest's kernel has an nbd driver that knows WRITE_ZEROES, from Linux 6.12 on. Others write zeroes. */
async function sendsZeroes(guest: Guest): Promise<boolean> {
  const [major, minor] = (await guest.expect("uname -r")).split(".").map(Number);
  return major > 6 || (major === 6 && minor >= 12);
}
