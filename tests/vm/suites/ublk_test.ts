/** A pool as /dev/ublkbN, in one guest that is client and both nodes. */

import assert from "node:assert/strict";
import { Bed } from "../bed/bed.ts";
import { GuestPool } from "../bed/brmr.ts";
import { expectLimits, expectReadOnly, ordinarySteps } from "../bed/device_steps.ts";
import { expectVerified, startFioVerify } from "../bed/fio.ts";

const SIZE_MIB = 320;
/** How a command ends that cannot have its device. */
const DEVICE_STATUS = 4;

Deno.test("a pool is a block device by ublk, and outlives its process", async (t) => {
  await using bed = await Bed.open({ modules: ["ublk_drv"], rdma: false, memoryMib: 2560 });
  const guest = bed.guest(1);
  await guest.expect("mkdir -p /data");
  const pool = await GuestPool.create(
    bed.directory,
    [{ guest, leg: "/data/a.img" }, { guest, leg: "/data/b.img" }],
    SIZE_MIB,
  );
  const device = await pool.attach(guest, "--device ublk");
  const step = async (name: string, body: () => Promise<void>) => {
    const passed = await t.step(name, body);
    if (!passed) console.error(await pool.log(), await guest.console());
  };

  await step("the kernel is told its geometry", async () => {
    assert.equal(device, "/dev/ublkb0");
    const columns = "SIZE,LOG-SEC,PHY-SEC,MIN-IO,OPT-IO,RO,DISC-GRAN,ROTA";
    assert.equal(
      (await guest.expect(`lsblk --bytes --noheadings --raw -o ${columns} ${device}`)).trim(),
      `${SIZE_MIB * 1048576} 4096 4096 4096 131072 0 4096 0`,
    );
    assert.equal(
      (await guest.expect("cat /sys/block/ublkb0/queue/fua /sys/block/ublkb0/queue/write_cache")).trim(),
      "1\nwrite back",
    );
    await expectLimits(guest, device, true);
  });

  await ordinarySteps(step, pool, guest, device);

  await step("a node dies and returns under fio; no error, no wrong block", async () => {
    const fio = await startFioVerify(guest, device, 12);
    await pool.killNode(1);
    await pool.startNode(1);
    await expectVerified(fio);
    await pool.waitInSync(guest);
  });

  await step(
    "attach is killed under fio and started again: the same device goes on, no error, no wrong block",
    async () => {
      const fio = await startFioVerify(guest, device, 15);
      assert.equal(await pool.detach("KILL"), 137);
      assert.equal(await pool.attach(guest, "--device ublk"), device);
      await expectVerified(fio);
      await pool.waitInSync(guest);
    },
  );

  await step("detach removes the device and leaves the legs identical", async () => {
    assert.equal(await pool.detach(), 0);
    await guest.expect(
      "for ((i = 0; i < 100; i++)); do [ -e /dev/ublkb0 ] || [ -e /dev/ublkc0 ] || exit 0; sleep 0.1; done; exit 1",
    );
    await pool.expectLegsIdentical();
  });

  await step("a read-only attach is a read-only device", async () => {
    const readOnly = await pool.attach(guest, "--device ublk --read-only");
    await expectReadOnly(guest, readOnly);
    assert.equal(await pool.detach(), 0);
  });

  await step("what a killed attach has left is listed, and removed by detach", async () => {
    assert.equal(await pool.attach(guest, "--device /dev/ublkb2"), "/dev/ublkb2");
    assert.equal((await guest.expect("readlink -f /dev/brmr/vol1")).trim(), "/dev/ublkb2");
    assert.equal(await pool.detach("KILL"), 137);
    const [left] = JSON.parse(await pool.brmr(guest, "list --json")).attachments;
    assert.deepEqual([left.state, left.device], ["left", "/dev/ublkb2"]);
    assert.match(await pool.brmr(guest, `detach ${pool.name}`), /\/dev\/ublkb2, which a dead attach .* is removed/);
    await guest.expect("[ ! -e /dev/ublkb2 ] && [ ! -e /dev/ublkc2 ] && [ ! -e /dev/brmr/vol1 ]");
    assert.deepEqual(JSON.parse(await pool.brmr(guest, "list --json")).attachments, []);
  });

  await step(
    "a device is not taken over once another client has served the pool, nor another made in its place",
    async () => {
      assert.equal(await pool.attach(guest, "--device ublk"), "/dev/ublkb0");
      assert.equal(await pool.detach("KILL"), 137);
      // Another client: one that does not know of the device, as on another machine.
      await guest.expect("mv /run/brmr /run/brmr.kept");
      await pool.attach(guest, "--nbd /run/brmr/other.sock");
      assert.equal(await pool.detach(), 0);
      await guest.expect("rm -r /run/brmr && mv /run/brmr.kept /run/brmr");
      const refusal = await pool.failure(
        guest,
        `attach ${pool.name} --device auto --nbd /run/brmr/vol1.sock`,
        DEVICE_STATUS,
      );
      assert.match(refusal, /\/dev\/ublkb0 was left by this pool, and another client has served the pool since/);
      assert.match(await pool.brmr(guest, `detach ${pool.name}`), /\/dev\/ublkb0, which a dead attach .* is removed/);
      assert.equal(await pool.attach(guest, "--device ublk"), "/dev/ublkb0");
      assert.equal(await pool.detach(), 0);
      await pool.expectLegsIdentical();
    },
  );

  await step("a detach while I/O waits for legs leaves no device, and the next attach makes one", async () => {
    const device = await pool.attach(guest, "--device ublk");
    await pool.killNode(0);
    await pool.killNode(1);
    await guest.expect(`dd if=/dev/zero of=${device} bs=4k count=1 oflag=direct >/dev/null 2>&1 & sleep 1`);
    await pool.detach();
    await guest.expect("[ ! -e /dev/ublkb0 ] && [ ! -e /dev/ublkc0 ]");
    await pool.startNode(0);
    await pool.startNode(1);
    assert.equal(await pool.attach(guest, "--device ublk"), "/dev/ublkb0");
    await pool.waitInSync(guest);
    assert.equal(await pool.detach(), 0);
  });

  await step("without the driver, auto says why and takes nbd; without that, too, the NBD socket", async () => {
    await guest.expect("for ((i = 0; i < 100; i++)); do rmmod ublk_drv && exit 0; sleep 0.1; done; exit 1");
    assert.equal(await pool.attach(guest, "--device auto"), "/dev/nbd0");
    assert.match(await pool.log(), /this kernel has no ublk.*modprobe ublk_drv/);
    assert.equal(await pool.detach(), 0);
    // The kernel loads it when it is asked for by netlink.
    await guest.expect("rmmod nbd && echo install nbd /bin/false >/etc/modprobe.d/no-nbd.conf");
    const uri = await pool.attach(guest, "--device auto --nbd /run/brmr/vol1.sock");
    assert.match(uri, /^nbd\+unix:/);
    assert.match(await pool.log(), /No block device: this kernel has no ublk.*; this kernel has no nbd.*modprobe nbd/);
    assert.equal(await pool.detach(), 0);
  });
});
