/** A pool over RDMA as /dev/ublkbN and as /dev/nbdN, in one guest that is client and both nodes. */

import assert from "node:assert/strict";
import { Bed } from "../bed/bed.ts";
import { GuestPool } from "../bed/brmr.ts";
import { expectDiscards, expectFileSystem, expectFio } from "../bed/device_steps.ts";
import { LEAST_MIB } from "../bed/file_systems.ts";
import { expectVerified, startFioVerify } from "../bed/fio.ts";

Deno.test("a pool over RDMA is a block device by ublk and by nbd", async (t) => {
  await using bed = await Bed.open({ modules: ["ublk_drv", "nbd"], memoryMib: 3072 });
  const guest = bed.guest(1);
  await guest.expect("mkdir -p /data");
  const legs = [{ guest, leg: "/data/a.img" }, { guest, leg: "/data/b.img" }];
  const pool = await GuestPool.create(bed.directory, legs, LEAST_MIB, { rdma: true });
  const step = async (name: string, body: () => Promise<void>) => {
    const passed = await t.step(name, body);
    if (!passed) console.error(await pool.log(), await guest.console());
  };
  const waitRdma = () =>
    pool.waitClient(
      guest,
      "two legs reached by RDMA",
      ({ paths = [] }) => paths.length === 2 && paths.every(({ transport }) => transport === "rdma"),
    );

  const ublk = await pool.attach(guest, "--device ublk --transport rdma");
  await step("ublk: discarded and zeroed ranges read as zeroes", () => expectDiscards(guest, ublk));
  await step("ublk: fio finds what it wrote", () => expectFio(guest, ublk));
  await step("ublk: ext4 keeps what is put into it", () => expectFileSystem(guest, ublk, "ext4"));
  await step("ublk: attach is killed under fio and started again: the same device goes on", async () => {
    const fio = await startFioVerify(guest, ublk, 12);
    assert.equal(await pool.detach("KILL"), 137);
    assert.equal(await pool.attach(guest, "--device ublk --transport rdma"), ublk);
    await expectVerified(fio);
    await waitRdma();
    await pool.waitInSync(guest);
  });
  assert.equal(await pool.detach(), 0);

  const nbd = await pool.attach(guest, "--device nbd");
  await step("nbd: RDMA is what is taken where it is there, and status tells what of it", async () => {
    await waitRdma();
    const lines = (await pool.brmr(guest, `status ${pool.name}`)).split("\n");
    for (const index of [0, 1]) {
      const line = lines.find((each) => each.includes(`leg ${index} by RDMA on `)) ?? "";
      assert.match(line, /RDMA on rxe0 /);
      assert.match(line, /\(GID (0:){5}ffff:a4d:1\)/); // 10.77.0.1
      // The largest that RDMA has; the network of the guest is made for it.
      assert.match(line, /MTU 4096,/);
      assert.match(line, new RegExp(`10\\.77\\.0\\.1:\\d+ -> 10\\.77\\.0\\.1:770${index + 1},`));
      assert.match(line, /[1-9][0-9.]* MiB registered/);
    }
  });
  await step("nbd: discarded and zeroed ranges read as zeroes", () => expectDiscards(guest, nbd));
  await step("nbd: fio finds what it wrote", () => expectFio(guest, nbd));
  await step("nbd: xfs keeps what is put into it", () => expectFileSystem(guest, nbd, "xfs"));
  await step("the legs are identical", async () => {
    assert.equal(await pool.detach(), 0);
    await pool.expectLegsIdentical();
  });
});
