import "../../ffi/libc_opened.ts";
import assert from "node:assert/strict";
import { attachState, writeAttachState } from "../../../lib/control/attach_state.ts";
import { AttachAnnouncement } from "../../../lib/node/attach_announcement.ts";

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
    announcement.announce([SOCKET]);
    const { poolName, poolUuid } = POOL;
    assert.deepEqual(attachState(dir, "vol1"), {
      ...{ version: 1, poolName, poolUuid, pid: Deno.pid },
      ...{ device: null, uris: [SOCKET] },
    });
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
