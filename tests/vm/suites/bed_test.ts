/** The bed itself: what every other suite takes for granted. */

import assert from "node:assert/strict";
import { Bed } from "../bed/bed.ts";

Deno.test("two guests reach each other by TCP and RDMA, and every fault is seen and healed", async (t) => {
  await using bed = await Bed.open({ guests: 2, memoryMib: 512, disks: [{ sizeMib: 16 }] });
  const [one, two] = bed.guests;

  await t.step("names, addresses, output, exit statuses", async () => {
    assert.deepEqual(await one.run("hostname; echo $GUEST_ADDRESS >&2; exit 7"), {
      status: 7,
      stdout: "guest1\n",
      stderr: "10.77.0.1\n",
      wasCut: false,
    });
    await one.expect("busybox ping -c 1 -W 10 guest2");
  });

  await t.step("soft-RoCE carries data between them", async () => {
    const server = await two.spawn("exec rping -s -a $GUEST_ADDRESS -C 3 -v", "rping server");
    const client = await one.run(
      "for ((i = 0; i < 20; i++)); do rping -c -a guest2 -C 3 && exit; sleep 0.3; done; exit 1",
    );
    assert.equal(client.status, 0, client.stderr + await server.log());
    await server.stop();
  });

  await t.step("a signal ends a command and its processes", async () => {
    const command = await one.spawn("sleep 1000 & sleep 1000; true");
    await one.expect("for ((i = 0; i < 300; i++)); do [ $(pgrep -c sleep) = 2 ] && exit; sleep 0.1; done; exit 1");
    assert.equal((await command.stop()).status, 137);
    await one.expect("for ((i = 0; i < 300; i++)); do pgrep sleep >&2 || exit 0; command sleep 0.1; done; exit 1");
  });

  await t.step("a cut loses frames silently, and is mended", async () => {
    await bed.cut(2);
    assert.notEqual((await one.run("busybox ping -c 2 -W 1 guest2")).status, 0);
    assert.match(await one.expect("cat /sys/class/net/eth0/carrier"), /1/);
    await bed.mend(2);
    await one.expect("busybox ping -c 1 -W 10 guest2");
  });

  await t.step("an unplugged cable is noticed", async () => {
    await two.plug(false);
    await two.expect(
      "for ((i = 0; i < 100; i++)); do grep -q 0 /sys/class/net/eth0/carrier && exit; sleep 0.1; done; exit 1",
    );
    await two.plug(true);
    await one.expect("busybox ping -c 3 -W 10 guest2");
  });

  await t.step("a power cut ends commands; the disk outlives it", async () => {
    await two.expect("echo kept | dd of=/dev/vda conv=fsync status=none");
    const command = await two.spawn("echo started; sleep 1000");
    await command.waitFor(/started/);
    await two.powerCut();
    assert.equal((await command.ended).wasCut, true);
    await two.start();
    assert.match(await two.expect("head -c 4 /dev/vda"), /kept/);
    await one.expect("busybox ping -c 1 -W 10 guest2");
  });
});
