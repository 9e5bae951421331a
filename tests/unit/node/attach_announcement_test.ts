import "../../ffi/libc_opened.ts";
import assert from "node:assert/strict";
import { attachState, writeAttachState } from "../../../lib/control/attach_state.ts";
import { ControlError } from "../../../lib/control/control_api.ts";
import { parseDeviceChoice } from "../../../lib/frontend/device_choice.ts";
import { AttachAnnouncement, type DeviceKernel } from "../../../lib/node/attach_announcement.ts";

const POOL = { poolName: "vol1", poolUuid: "aaaaaaaa-0000-4000-8000-000000000000" };
const SOCKET = "nbd+unix:///vol1?socket=/run/vol1.sock";
/** No kernel has so many. */
const ABSENT = ["/dev/nbd1023", "/dev/ublkb1023"];

async function inDir(work: (dir: string) => void): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    work(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("an attach is written down while it serves, and no longer", async () => {
  await inDir((dir) => {
    const announcement = new AttachAnnouncement(dir, POOL, (message) => assert.fail(message));
    announcement.checkLeft(undefined);
    announcement.withdraw();
    assert.equal(attachState(dir, "vol1"), null);
    announcement.announce([SOCKET], 3);
    const { poolName, poolUuid } = POOL;
    assert.deepEqual(attachState(dir, "vol1"), {
      ...{ version: 1, poolName, poolUuid, pid: Deno.pid },
      ...{ device: null, uris: [SOCKET], generation: 3 },
    });
    announcement.claimedAnew(5);
    assert.equal(attachState(dir, "vol1")?.generation, 5);
    assert.equal(announcement.leftGeneration, null);
    assert.deepEqual([announcement.device, announcement.uses, announcement.uris], [null, [], [SOCKET]]);
    announcement.withdraw();
    assert.equal(attachState(dir, "vol1"), null);
  });
});

Deno.test("a device that the kernel does not have any more hinders nobody", async () => {
  await inDir((dir) => {
    for (const device of ABSENT) {
      writeAttachState(dir, { version: 1, ...POOL, pid: 7, device, uris: [device] });
      new AttachAnnouncement(dir, POOL, (message) => assert.fail(message)).checkLeft(undefined);
    }
    Deno.writeTextFileSync(`${dir}/client-vol1.json`, '{"version":2}');
    assert.equal(attachState(dir, "vol1"), null);
  });
});

/** A kernel with the devices of `own`, all of them the pool's; tells what was done to links. */
function kernelWith(own: readonly string[], links: string[] = []): DeviceKernel {
  return {
    isInKernel: (device) => own.includes(device),
    isOfPool: (device, poolUuid) => own.includes(device) && poolUuid === POOL.poolUuid,
    usesOf: () => ["mounted at /mnt"],
    makeDeviceLink: (poolName, device) => (links.push(`make ${poolName} ${device}`), "no link"),
    removeDeviceLink: (poolName, device) => (links.push(`remove ${poolName} ${device}`), ""),
  };
}

Deno.test("what a dead attach has left is taken over by an attach that can, and refused by others", async () => {
  await inDir((dir) => {
    writeAttachState(dir, { version: 1, ...POOL, pid: 7, device: "/dev/nbd3", uris: ["/dev/nbd3"] });
    const announcement = new AttachAnnouncement(dir, POOL, (text) => assert.fail(text), kernelWith(["/dev/nbd3"]));
    for (const choice of ["auto", "nbd", "/dev/nbd3"]) announcement.checkLeft(parseDeviceChoice(choice)!);
    for (const choice of ["ublk", "/dev/nbd4", "/dev/ublkb3", null]) {
      const wanted = choice === null ? undefined : parseDeviceChoice(choice)!;
      assert.throws(() => announcement.checkLeft(wanted), (error: unknown) => {
        assert.ok(error instanceof ControlError && error.code === "in-use");
        assert.match(
          error.message,
          /has left \/dev\/nbd3, .* --device \/dev\/nbd3, or remove it first: brmr detach vol1/,
        );
        return true;
      });
    }
    const another = { ...POOL, poolUuid: "bbbbbbbb-0000-4000-8000-000000000000" };
    new AttachAnnouncement(dir, another, (text) => assert.fail(text), kernelWith(["/dev/nbd3"])).checkLeft(undefined);
  });
});

Deno.test("a device has a name while it is served; one that stays in the kernel stays written down", async () => {
  await inDir((dir) => {
    const links: string[] = [];
    const warnings: string[] = [];
    const devices = ["/dev/nbd3"];
    const kernel = kernelWith(devices, links);
    const announcement = new AttachAnnouncement(dir, POOL, (text) => warnings.push(text), kernel);
    announcement.announce(["/dev/nbd3", SOCKET], 7);
    assert.deepEqual([announcement.device, announcement.uses], ["/dev/nbd3", ["mounted at /mnt"]]);
    assert.deepEqual(warnings, ["no link"]);
    announcement.withdraw();
    assert.equal(attachState(dir, "vol1")?.device, "/dev/nbd3");
    const next = new AttachAnnouncement(dir, POOL, (text) => warnings.push(text), kernel);
    next.checkLeft({ kind: "auto", index: -1 });
    assert.equal(next.leftGeneration, 7, "the claim under which what waits there was served");
    next.claimedAnew(9);
    const { device, generation } = attachState(dir, "vol1")!;
    assert.deepEqual([device, generation], ["/dev/nbd3", 9], "an attach that dies before it serves is no other client");
    assert.deepEqual(links, ["make vol1 /dev/nbd3"]);
    devices.pop();
    announcement.withdraw();
    assert.equal(attachState(dir, "vol1"), null);
    assert.deepEqual(links, ["make vol1 /dev/nbd3", "remove vol1 /dev/nbd3"]);
  });
});
