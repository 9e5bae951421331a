import assert from "node:assert/strict";
import { holder, tryOpen, until } from "../holder.ts";
import { run, withExt4 } from "./root_fixture.ts";

Deno.test("the lock of a killed process is free only when its last write is over", async () => {
  await withExt4(async (mountPoint) => {
    const path = `${mountPoint}/leg.img`;
    Deno.writeFileSync(path, new Uint8Array(64 * 1024));
    run("sync", "--file-system", path);
    // A frozen file system takes the write and keeps it waiting for as long as it is frozen.
    run("fsfreeze", "--freeze", mountPoint);
    let child: Deno.ChildProcess | null = null;
    try {
      child = await holder(path, "write");
      const isWriting = () => threadStates(child!.pid).some((state) => state === "D");
      await until("the write has reached the file system", isWriting);
      child.kill("SIGKILL");
      // While the write is under way nobody else gets in, dead or not.
      for (let i = 0; i < 20; i++) {
        assert.equal(tryOpen(path), "in-use");
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    } finally {
      run("fsfreeze", "--unfreeze", mountPoint);
      child?.kill("SIGKILL");
      await child?.status;
    }
    await until("the lock is free", () => tryOpen(path) === "opened");
    // Whoever gets in sees the late write whole or not at all (the kernel may drop it with the process), and for good.
    const bytes = Deno.readFileSync(path);
    const late = bytes[4096];
    assert.ok(late === 0 || late === 0xab);
    assert.ok(bytes.every((byte, i) => byte === (i >= 4096 && i < 8192 ? late : 0)));
    run("sync", "--file-system", path);
    assert.deepEqual(Deno.readFileSync(path), bytes);
  });
});

/** States of a process's threads, as in /proc: "D" is waiting for I/O that cannot be interrupted. */
function threadStates(pid: number): string[] {
  // By the shell: a thread that ends meanwhile is no error, and /proc is not open to Deno's own reads.
  const stats = run("sh", "-c", `cat /proc/${pid}/task/*/stat 2>/dev/null; true`);
  return stats.split("\n").map((stat) => stat.slice(stat.lastIndexOf(")") + 2)[0]);
}
