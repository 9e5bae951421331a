import assert from "node:assert/strict";
import { clientSocketPath, listClientSockets, makeRuntimeDir, runtimeDir } from "../../../lib/control/runtime_dir.ts";
import { ControlError } from "../../../lib/control/control_api.ts";

function surroundings(env: Record<string, string>, isWritable: boolean, uid = 1000) {
  return { env: (name: string) => env[name], isWritable: () => isWritable, uid: () => uid };
}

Deno.test("runtimeDir() takes the first of its places", { permissions: "none" }, () => {
  const all = { BRMR_RUNTIME_DIR: "/own", XDG_RUNTIME_DIR: "/run/user/1000" };
  assert.equal(runtimeDir(surroundings(all, true)), "/own");
  assert.equal(runtimeDir(surroundings({ ...all, BRMR_RUNTIME_DIR: "" }, true)), "/run/user/1000/brmr");
  assert.equal(runtimeDir(surroundings({}, true)), "/run/brmr");
  assert.equal(runtimeDir(surroundings({}, false)), "/tmp/brmr-1000");
});

Deno.test("root looks in one place, in a login session as in a service", { permissions: "none" }, () => {
  const session = { XDG_RUNTIME_DIR: "/run/user/0" };
  assert.equal(runtimeDir(surroundings(session, true, 0)), "/run/brmr");
  assert.equal(runtimeDir(surroundings({}, true, 0)), "/run/brmr");
  assert.equal(runtimeDir(surroundings(session, false, 0)), "/run/user/0/brmr");
  assert.equal(runtimeDir(surroundings({ ...session, BRMR_RUNTIME_DIR: "/own" }, true, 0)), "/own");
});

Deno.test("clientSocketPath() refuses a path that no socket can have", { permissions: "none" }, () => {
  assert.equal(clientSocketPath("/run/brmr", "vol1"), "/run/brmr/client-vol1.sock");
  assert.throws(() => clientSocketPath("/" + "d".repeat(100), "vol1"), ControlError);
});

Deno.test("listClientSockets() finds pools by their sockets, and nothing where there is no directory", async () => {
  const dir = await Deno.makeTempDir({ prefix: "brmr-test-" });
  try {
    assert.deepEqual(await listClientSockets(`${dir}/absent`), []);
    for (const name of ["client-b.sock", "client-a.1.sock", "nbd-a.sock", "client-.sock"]) {
      await Deno.writeTextFile(`${dir}/${name}`, "");
    }
    assert.deepEqual(await listClientSockets(dir), ["a.1", "b"]);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("makeRuntimeDir() makes it for this user alone, and refuses a symbolic link in its place", async () => {
  const dir = await Deno.makeTempDir({ prefix: "brmr-test-" });
  try {
    makeRuntimeDir(`${dir}/run`);
    assert.equal((await Deno.stat(`${dir}/run`)).mode! & 0o777, 0o700);
    makeRuntimeDir(`${dir}/run`);
    await Deno.symlink(`${dir}/run`, `${dir}/link`);
    assert.throws(() => makeRuntimeDir(`${dir}/link`), ControlError);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
