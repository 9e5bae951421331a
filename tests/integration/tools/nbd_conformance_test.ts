/**
 * The NBD frontend against the tools people use: nbdinfo, nbdcopy, qemu-io, qemu-img and fio, over a pool in memory.
 * Needs fio, libnbd-bin and qemu-utils.
 */

import { deepStrictEqual, match, strictEqual } from "node:assert/strict";
import { crc32 } from "node:zlib";
import { Cmd, Opt, pattern } from "../../unit/frontend/nbd_harness.ts";
import { be32, concat, infoData, option, request } from "../../unit/frontend/nbd_wire.ts";

const SERVER_SCRIPT = new URL("./nbd_ram_server.ts", import.meta.url).pathname;
const MIB = 1 << 20;

interface Served {
  uri: string;
  directory: string;
  process: Deno.ChildProcess;
  output: ReadableStreamDefaultReader<Uint8Array>;
}

async function start(address: string, directory: string, ...rest: string[]): Promise<Served> {
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-ffi", "--allow-read", "--allow-write", SERVER_SCRIPT, address, ...rest],
    stdout: "piped",
  }).spawn();
  const output = process.stdout.getReader();
  let line = "";
  while (!line.includes("\n")) {
    const { value, done } = await output.read();
    if (done) throw new Error(`The server ended before it was ready: ${line}`);
    line += new TextDecoder().decode(value);
  }
  const found = /^ready (\S+)\n$/.exec(line);
  if (found === null) throw new Error(`Not a ready line: ${line}`);
  return { uri: found[1], directory, process, output };
}

async function stop(served: Served, signal: Deno.Signal = "SIGTERM"): Promise<void> {
  served.process.kill(signal);
  await served.process.status;
  await served.output.cancel();
}

/** Runs `body` against a server on a unix socket (or `address`) in a directory of its own. */
async function withServer(
  body: (served: Served) => Promise<void>,
  { sizeMib = 64, blockBytes = 512, access = "", address = "" } = {},
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "nbd_conformance_" });
  try {
    const served = await start(address || `${directory}/pool.sock`, directory, `${sizeMib}`, `${blockBytes}`, access);
    try {
      await body(served);
      strictEqual(await isRunning(served), true, "the server has survived");
    } finally {
      await stop(served);
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

async function isRunning(served: Served): Promise<boolean> {
  const pause = new Promise<"running">((resolve) => setTimeout(() => resolve("running"), 20));
  return await Promise.race([served.process.status.then(() => "ended"), pause]) === "running";
}

/** Runs a tool to its end; fails with its output unless it exits with `code`. */
async function run(command: string, args: string[], code = 0, cwd?: string): Promise<string> {
  const { code: got, stdout, stderr } = await new Deno.Command(command, { args, cwd }).output();
  const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  strictEqual(got, code, `${command} ${args.join(" ")} exits with ${got}:\n${text}`);
  return text;
}

function qemuIo(uri: string, ...commands: string[]): Promise<string> {
  return run("qemu-io", ["-f", "raw", ...commands.flatMap((command) => ["-c", command]), uri]);
}

Deno.test("nbdinfo reads the export as it is", async () => {
  await withServer(async ({ uri }) => {
    const info = JSON.parse(await run("nbdinfo", ["--json", "--no-content", uri]));
    strictEqual(info.protocol, "newstyle-fixed");
    strictEqual(info.structured, true);
    const [pool] = info.exports;
    strictEqual(pool["export-name"], "vol1");
    strictEqual(pool["export-size"], 64 * MIB);
    deepStrictEqual(pool.contexts, ["base:allocation"]);
    const yes = ["can_cache", "can_df", "can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero"];
    for (const name of yes) strictEqual(pool[name], true, name);
    for (const name of ["can_fast_zero", "is_read_only", "is_rotational"]) strictEqual(pool[name], false, name);
    const { block_size_minimum, block_size_preferred, block_size_maximum } = pool;
    deepStrictEqual([block_size_minimum, block_size_preferred, block_size_maximum], [512, 4096, 32 * MIB]);
    for (const can of ["flush", "fua", "trim", "zero", "df", "cache", "multi-conn"]) {
      await run("nbdinfo", [`--can=${can}`, uri]);
    }
    await run("nbdinfo", ["--can=fast-zero", uri], 2);
    await run("nbdinfo", ["--is=read-only", uri], 2);
    strictEqual((await run("nbdinfo", ["--size", uri])).trim(), `${64 * MIB}`);
    deepStrictEqual(JSON.parse(await run("nbdinfo", ["--map", "--json", uri])), [
      { offset: 0, length: 64 * MIB, type: 0, description: "data" },
    ]);
    match(await run("nbdinfo", ["--list", uri]), /export="vol1"/);
    match(await run("nbdinfo", [uri.replace("vol1", "vol2")], 1), /No such file or directory for export: vol2/);
    await run("nbdinfo", [uri.replace("vol1", "")]);
  });
});

Deno.test("a read-only pool with 4096 byte blocks says so and refuses writes", async () => {
  await withServer(async ({ uri }) => {
    await run("nbdinfo", ["--is=read-only", uri]);
    const [pool] = JSON.parse(await run("nbdinfo", ["--json", "--no-content", uri])).exports;
    deepStrictEqual([pool.block_size_minimum, pool.can_trim, pool.can_zero], [4096, false, false]);
    match(await run("qemu-io", ["-f", "raw", "-c", "write 0 4k", uri], 1), /Permission denied/);
    match(await run("qemu-io", ["-r", "-f", "raw", "-c", "read -P 0 0 64k", uri]), /read 65536\/65536/);
  }, { blockBytes: 4096, access: "read-only" });
});

Deno.test("nbdcopy both ways, equal to the byte", async () => {
  await withServer(async ({ uri, directory }) => {
    const data = pattern(64 * MIB, 4711);
    await Deno.writeFile(`${directory}/in`, data);
    await run("nbdcopy", ["--connections=4", `${directory}/in`, uri]);
    await run("nbdcopy", ["--flush", uri, `${directory}/out`]);
    strictEqual(crc32(await Deno.readFile(`${directory}/out`)), crc32(data));
    await run("qemu-img", ["compare", "-f", "raw", "-F", "raw", `${directory}/in`, uri]);
    // One request at a time, and the largest that libnbd sends.
    await run("nbdcopy", ["--synchronous", "--request-size=33554432", uri, `${directory}/out2`]);
    strictEqual(crc32(await Deno.readFile(`${directory}/out2`)), crc32(data));
  });
});

Deno.test("qemu-io: patterns, discard, write zeroes, FUA and flush", async () => {
  await withServer(async ({ uri }) => {
    const report = await qemuIo(
      uri,
      "write -P 0xaa 0 1M",
      "write -f -P 0xbb 512 512",
      "aio_write -P 0xcc 2M 8M",
      "aio_write -P 0xdd 20M 4k",
      "aio_flush",
      "flush",
      "read -P 0xaa 0 512",
      "read -P 0xbb 512 512",
      "read -P 0xaa 1k 1047552",
      "read -P 0xcc 2M 8M",
      "read -P 0xdd 20M 4k",
      "write -z 64k 64k",
      "write -z -u 2M 4M",
      "discard 6M 2M",
      "read -P 0xaa 0 512",
      "read -P 0 64k 64k",
      "read -P 0xaa 128k 64k",
      "read -P 0 2M 6M",
      "read -P 0xcc 8M 2M",
      "read 0 32M",
    );
    strictEqual(/failed|error|Pattern/i.test(report), false, report);
    const failed = await run("qemu-io", ["-f", "raw", "-c", "read -P 1 0 512", uri], 1);
    match(failed, /Pattern verification failed/, "the check itself can fail");
  });
});

Deno.test("qemu-img convert and compare", async () => {
  await withServer(async ({ uri, directory }) => {
    const data = new Uint8Array(64 * MIB);
    data.set(pattern(5 * MIB, 1), 3 * MIB);
    data.set(pattern(MIB, 2), 60 * MIB);
    await Deno.writeFile(`${directory}/disk.raw`, data);
    await qemuIo(uri, "write -P 0xee 0 64M");
    await run("qemu-img", ["convert", "-n", "-f", "raw", "-O", "raw", `${directory}/disk.raw`, uri]);
    await run("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", uri, `${directory}/disk.qcow2`]);
    await run("qemu-img", ["compare", `${directory}/disk.raw`, `${directory}/disk.qcow2`]);
  });
});

Deno.test("fio verifies what several jobs on several connections wrote", async () => {
  await withServer(async ({ uri, directory }) => {
    const report = await run(
      "fio",
      [
        "--ioengine=nbd",
        `--uri=${uri}`,
        "--verify=crc32c",
        "--verify_fatal=1",
        "--randrepeat=1",
        "--group_reporting",
        "--output-format=json",
        "--name=small",
        "--rw=randwrite",
        "--bs=4k",
        "--iodepth=32",
        "--numjobs=2",
        "--size=8M",
        "--offset_increment=8M",
        "--name=mixed",
        "--rw=randwrite",
        "--bsrange=512-1M",
        "--blockalign=512",
        "--iodepth=8",
        "--offset=16M",
        "--size=16M",
        "--name=large",
        "--rw=write",
        "--bs=4M",
        "--iodepth=4",
        "--offset=32M",
        "--size=32M",
        "--numjobs=1",
      ],
      0,
      directory,
    );
    const { jobs } = JSON.parse(report.slice(report.indexOf("{")));
    let writtenBytes = 0;
    for (const job of jobs) {
      strictEqual(job.error, 0);
      strictEqual(job.read.io_bytes, job.write.io_bytes, "all that was written was verified");
      writtenBytes += job.write.io_bytes;
    }
    strictEqual(writtenBytes, 64 * MIB);
  });
});

Deno.test("TCP on loopback; an address others can reach is refused", async () => {
  await withServer(async ({ uri }) => {
    match(uri, /^nbd:\/\/127\.0\.0\.1:\d+\/vol1$/);
    strictEqual((await run("nbdinfo", ["--size", uri])).trim(), `${64 * MIB}`);
    await qemuIo(uri, "write -P 7 0 5M", "read -P 7 0 5M");
  }, { address: "127.0.0.1:0" });
  const refused = await run(Deno.execPath(), [
    "run",
    "--allow-ffi",
    "--allow-read",
    "--allow-write",
    SERVER_SCRIPT,
    "0.0.0.0:0",
  ], 1);
  match(refused, /Other machines can reach "0\.0\.0\.0:0"/);
});

Deno.test("a socket path left by a dead server is taken over, one in use is refused", async () => {
  await withServer(async (first) => {
    const path = `${first.directory}/pool.sock`;
    const args = ["run", "--allow-ffi", "--allow-read", "--allow-write", SERVER_SCRIPT, path];
    match(await run(Deno.execPath(), args, 1), /another process listens there/);
    await run("nbdinfo", ["--size", first.uri]);
    const path2 = `${first.directory}/second.sock`;
    await stop(await start(path2, first.directory), "SIGKILL");
    strictEqual((await Deno.lstat(path2)).isSocket, true, "the dead server has left its socket");
    const second = await start(path2, first.directory);
    await run("nbdinfo", ["--size", second.uri]);
    await stop(second);
  });
});

Deno.test("clients that vanish in the middle of everything leave the server in order", async () => {
  await withServer(async ({ uri, directory }) => {
    for (let round = 0; round < 100; round++) {
      const connection = await Deno.connect({ transport: "unix", path: `${directory}/pool.sock` });
      await writeAll(connection, concat(be32(3), option(Opt.STRUCTURED), option(Opt.GO, infoData("vol1"))));
      // Greeting, and the replies to both options: INFO EXPORT, INFO BLOCK_SIZE, ACK.
      await readBytes(connection, 18 + 20 + (20 + 12 + 20 + 14 + 20));
      const requests = [];
      for (let i = 0; i < 20; i++) {
        requests.push(request({ command: Cmd.READ, cookie: i, offset: i * MIB, length: MIB }));
        requests.push(
          request({ command: Cmd.WRITE, cookie: 100 + i, offset: i * MIB, length: 8192 }),
          pattern(8192, i),
        );
      }
      requests.push(request({ command: Cmd.WRITE, cookie: 1000, length: 2 * MIB }), new Uint8Array(MIB + 1000 * round));
      // The server may have stopped reading, since nobody reads its answers: what it takes is enough.
      const sent = writeAll(connection, concat(...requests)).catch((error) => error);
      await readBytes(connection, 28 + 1000 * round);
      connection.close();
      await sent;
    }
    // All of the memory is there again: a copy that needs much of it works.
    await run("nbdcopy", ["--connections=4", "--requests=64", uri, "null:"]);
  });
});

async function writeAll(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
}

async function readBytes(connection: Deno.Conn, lengthBytes: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(lengthBytes);
  for (let at = 0; at < lengthBytes;) {
    const got = await connection.read(bytes.subarray(at));
    if (got === null) throw new Error(`The server closed after ${at} of ${lengthBytes} bytes`);
    at += got;
  }
  return bytes;
}
