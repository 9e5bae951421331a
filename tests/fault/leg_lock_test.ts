import assert from "node:assert/strict";
import { DeviceFile, formatLeg, StoreError } from "../../lib/store/leg_device.ts";
import { GENEROUS_MS, legOptions, run, withDirectory } from "../unit/store/store_fixture.ts";

/** A process that holds `path`, once it does. */
async function holder(path: string, ...mode: string[]): Promise<Deno.ChildProcess> {
  const script = new URL("lock_holder.ts", import.meta.url).pathname;
  const args = ["run", "--quiet", "--no-prompt", "--allow-ffi", script, path, ...mode];
  const child = new Deno.Command(Deno.execPath(), { args, stdin: "null", stdout: "piped", stderr: "inherit" }).spawn();
  let said = "";
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  while (!said.includes("holding\n")) {
    const { value, done } = await reader.read();
    assert.ok(!done, `the holder says that it holds, not "${said}"`);
    said += value;
  }
  await reader.cancel();
  return child;
}

/** Opens `path` or says why not. */
function tryOpen(path: string): "opened" | string {
  try {
    DeviceFile.open(path, { access: "exclusive" }).close();
    return "opened";
  } catch (error) {
    assert.ok(error instanceof StoreError, String(error));
    return error.code;
  }
}

async function until(claim: string, condition: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + GENEROUS_MS;
  while (!condition()) {
    assert.ok(performance.now() < deadlineMs, `in time: ${claim}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function inDirectory(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = Deno.makeTempDirSync({ prefix: "brmr_lock_" });
  try {
    await body(directory);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

Deno.test("a leg that another process has is refused, until that process is gone", async () => {
  await inDirectory(async (directory) => {
    const options = legOptions(`${directory}/a.img`);
    formatLeg(options);
    const child = await holder(options.path);
    try {
      assert.equal(tryOpen(options.path), "in-use");
      assert.throws(() => formatLeg({ ...options, force: true }), /in use by another process/);
    } finally {
      child.kill("SIGKILL");
      await child.status;
    }
    await until("the lock is free", () => tryOpen(options.path) === "opened");
  });
});

Deno.test("the lock of a killed process is free only when its last write is over", async () => {
  await onFreezableFileSystem(async (mountPoint) => {
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

/** Runs `body` with an ext4 file system of its own, which is taken down afterwards. */
async function onFreezableFileSystem(body: (mountPoint: string) => Promise<void>): Promise<void> {
  await inDirectory(async (directory) => {
    const image = `${directory}/fs.img`;
    const mountPoint = `${directory}/fs`;
    Deno.writeFileSync(image, new Uint8Array(0));
    Deno.truncateSync(image, 64 * 1024 * 1024);
    Deno.mkdirSync(mountPoint);
    run("mke2fs", "-q", "-F", "-t", "ext4", image);
    run("mount", "-o", "loop", image, mountPoint);
    try {
      await body(mountPoint);
    } finally {
      run("umount", "--lazy", mountPoint);
    }
  });
}

/** States of a process's threads, as in /proc: "D" is waiting for I/O that cannot be interrupted. */
function threadStates(pid: number): string[] {
  const states: string[] = [];
  for (const thread of Deno.readDirSync(`/proc/${pid}/task`)) {
    try {
      const stat = Deno.readTextFileSync(`/proc/${pid}/task/${thread.name}/stat`);
      states.push(stat.slice(stat.lastIndexOf(")") + 2)[0]);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // a thread that has ended meanwhile
    }
  }
  return states;
}

Deno.test("a file system without room leaves no half-made leg", () => {
  withDirectory((directory) => {
    run("mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", directory);
    try {
      const options = legOptions(`${directory}/a.img`);
      assert.throws(() => formatLeg(options), /ENOSPC/);
      assert.deepEqual([...Deno.readDirSync(directory)], []);
      run("mount", "-o", "remount,size=1m", directory);
      formatLeg(options);
    } finally {
      run("umount", directory);
    }
  });
});
