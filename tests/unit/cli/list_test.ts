import assert from "node:assert/strict";
import { type Attachment, type DeviceView, findAttachments } from "../../../cli/attachments.ts";
import { painter } from "../../../cli/paint.ts";
import { renderAttachments } from "../../../cli/render_attachments.ts";
import { readAttachStates, writeAttachState } from "../../../lib/control/attach_state.ts";
import { clientSocketPath } from "../../../lib/control/runtime_dir.ts";
import { ClientControlServer } from "../../../lib/node/client_control_server.ts";
import { assertGolden } from "./golden.ts";

const UUIDS = ["a", "b", "c", "d"].map((digit) => `${digit.repeat(8)}-0000-4000-8000-000000000000`);

async function inRuntimeDir(work: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  const before = Deno.env.get("BRMR_RUNTIME_DIR");
  Deno.env.set("BRMR_RUNTIME_DIR", dir);
  try {
    await work(dir);
  } finally {
    if (before === undefined) Deno.env.delete("BRMR_RUNTIME_DIR");
    else Deno.env.set("BRMR_RUNTIME_DIR", before);
    await Deno.remove(dir, { recursive: true });
  }
}

function state(dir: string, poolName: string, poolUuid: string, device: string | null): void {
  writeAttachState(dir, {
    version: 1,
    poolName,
    poolUuid,
    pid: 999_999,
    device,
    uris: device === null ? [] : [device],
  });
}

Deno.test("what runs is listed as it says, what is left as the kernel has it, and the rest is cleared away", async () => {
  await inRuntimeDir(async (dir) => {
    const answer = () =>
      Promise.resolve({
        uri: "/dev/ublkb0",
        uris: ["/dev/ublkb0", "nbd+unix:///live?socket=/run/live.sock"],
        device: "/dev/ublkb0",
        uses: ["mounted at /mnt"],
        pid: 7,
        snapshot: { poolName: "live", poolUuid: UUIDS[0], state: "ready" },
      });
    const server = await ClientControlServer.listen(clientSocketPath(dir, "live"), answer);
    try {
      state(dir, "live", UUIDS[0], "/dev/ublkb0");
      state(dir, "left", UUIDS[1], "/dev/nbd3");
      // Its number belongs to the one that runs, by now.
      state(dir, "outdated", UUIDS[2], "/dev/ublkb0");
      state(dir, "socket-only", UUIDS[3], null);
      // A socket that a dead process left behind.
      Deno.listen({ transport: "unix", path: `${dir}/dead` }).close();
      await Deno.rename(`${dir}/dead`, clientSocketPath(dir, "outdated")).catch(() => undefined);
      await Deno.writeTextFile(`${dir}/client-broken.json`, "{");
      const removed: string[] = [];
      const view: DeviceView = {
        isOfPool: (device, poolUuid) => device === "/dev/nbd3" && poolUuid === UUIDS[1],
        usesOf: () => ["held by dm-0"],
        removeLink: (poolName, device) => removed.push(`${poolName} ${device}`),
      };
      let warned = "";
      const found = await findAttachments(view, (text) => warned += text);
      assert.deepEqual(found.map(({ poolName, state, device, pid }) => [poolName, state, device, pid]), [
        ["left", "left", "/dev/nbd3", 999_999],
        ["live", "ready", "/dev/ublkb0", 7],
      ]);
      assert.deepEqual(found[1].sockets, ["nbd+unix:///live?socket=/run/live.sock"]);
      assert.deepEqual(found.map(({ uses }) => uses), [["held by dm-0"], ["mounted at /mnt"]]);
      assert.deepEqual(removed, ["outdated /dev/ublkb0"]);
      assert.match(warned, /client-broken\.json is not of this version/);
      const names = (await readAttachStates(dir, () => undefined)).map(({ poolName }) => poolName);
      assert.deepEqual(names, ["left", "live"]);
      await assert.rejects(Deno.lstat(clientSocketPath(dir, "outdated")), Deno.errors.NotFound);
    } finally {
      await server.close();
    }
  });
});

Deno.test("list shows devices, sockets, users, and what to do about what is left", async () => {
  const of = (poolName: string, change: Partial<Attachment>): Attachment => {
    const empty = { poolUuid: UUIDS[0], state: "ready", device: null, sockets: [], pid: 4711, uses: [] };
    return { poolName, ...empty, ...change };
  };
  const attachments = [
    of("db", { device: "/dev/ublkb0", uses: ["mounted at /srv/db"] }),
    of("vm7", { sockets: ["nbd+unix:///vm7?socket=/run/vm7.sock"], state: "waiting" }),
    of("web", { device: "/dev/nbd2", state: "left" }),
  ];
  await assertGolden("list.txt", renderAttachments(attachments, "/run/brmr", painter(false)));
  assert.match(renderAttachments([], "/run/brmr", painter(false)), /^Nothing is attached, as far as \/run\/brmr tells/);
});
