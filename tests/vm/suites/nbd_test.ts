/** A pool as /dev/nbdN, in one guest that is client and both nodes. */

import assert from "node:assert/strict";
import { Bed } from "../bed/bed.ts";
import { GuestPool } from "../bed/brmr.ts";
import { expectVerified, startFioVerify } from "../bed/fio.ts";

const SIZE_MIB = 320;

Deno.test("a pool is a block device by nbd, and outlives its process", async (t) => {
  await using bed = await Bed.open({ modules: ["nbd"], rdma: false, memoryMib: 2560 });
  const guest = bed.guest(1);
  await guest.expect("mkdir -p /data /mnt/pool");
  const pool = await GuestPool.create(
    bed.directory,
    [{ guest, leg: "/data/a.img" }, { guest, leg: "/data/b.img" }],
    SIZE_MIB,
  );
  const device = await pool.attach(guest, "--device nbd");
  const step = async (name: string, body: () => Promise<void>) => {
    const passed = await t.step(name, body);
    if (!passed) console.error(await pool.log(), await guest.console());
  };

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
  });

  await step("a node dies and returns under fio; no error, no wrong block", async () => {
    const fio = await startFioVerify(guest, device, 12);
    await pool.killNode(1);
    await pool.startNode(1);
    await expectVerified(fio);
    await pool.waitInSync(guest);
  });

  await step("attach is killed under fio and started again: the same device goes on", async () => {
    const fio = await startFioVerify(guest, device, 15);
    assert.equal(await pool.detach("KILL"), 137);
    assert.equal(await pool.attach(guest, "--device nbd"), device);
    const { longestMs } = await expectVerified(fio);
    console.log(`the longest request took ${(longestMs / 1000).toFixed(2)} s`);
    await pool.waitInSync(guest);
  });

  await step("detach removes the device and leaves the legs identical", async () => {
    assert.equal(await pool.detach(), 0);
    assert.equal((await guest.expect("cat /sys/block/nbd0/size")).trim(), "0");
    await pool.expectLegsIdentical();
  });
});
