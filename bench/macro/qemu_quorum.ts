/**
 * The nearest userspace peer in C that runs without kernel modules: QEMU's quorum driver over two NBD legs, which is
 * RAID 1 over network block devices. Started as fairly as we know how:
 *
 * - the legs are files opened with cache.direct=on and aio=io_uring, as ours are;
 * - the processes speak over unix sockets: over loopback TCP QEMU 7.2 stalls on delayed acknowledgements and falls to a
 *   few hundred IOPS at depth 32, which would flatter whoever is compared with it;
 * - they are children of whoever measures, as our processes are, and no daemons: Linux shares out processors among
 *   sessions (autogroups), and processes with sessions of their own would get more of a busy machine than ours;
 * - read-pattern=fifo reads from one leg; the other pattern reads every leg for each read.
 *
 * Needs qemu-storage-daemon (Debian: qemu-utils).
 *
 * @module
 */

import { runTool } from "./fio.ts";

/** A running quorum. */
export interface QuorumPool {
  readonly uri: string;
  readonly clientPid: number;
  readonly nodePids: readonly number[];
  stop(): Promise<void>;
}

/** Until a daemon is ready, at most. */
const READY_LIMIT_MS = 20_000;

/** Starts one and returns when it serves: it writes the file with its process id then, and not before. */
async function startDaemon(pidFile: string, args: readonly string[]): Promise<Deno.ChildProcess> {
  const daemon = new Deno.Command("qemu-storage-daemon", {
    args: [...args, "--pidfile", pidFile],
    stdin: "null",
    stdout: "null",
  }).spawn();
  let hasEnded = false;
  daemon.status.then(() => hasEnded = true);
  for (let waitedMs = 0; waitedMs < READY_LIMIT_MS && !hasEnded; waitedMs += 20) {
    if (await Deno.stat(pidFile).then(() => true, () => false)) return daemon;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  if (!hasEnded) daemon.kill("SIGKILL");
  throw new Error(`qemu-storage-daemon ${args.join(" ")} ${hasEnded ? "has ended" : "is not ready"}`);
}

async function stopAll(daemons: readonly Deno.ChildProcess[]): Promise<void> {
  for (const daemon of daemons) daemon.kill("SIGTERM");
  for (const daemon of daemons) await daemon.status;
}

/** Starts two legs of `sizeBytes` in `directory` and the quorum over them. */
export async function startQuorum(directory: string, sizeBytes: number): Promise<QuorumPool> {
  const nodes: Deno.ChildProcess[] = [];
  try {
    for (const leg of ["1", "2"]) {
      await runTool("fallocate", ["-l", `${sizeBytes}`, `${directory}/leg${leg}.img`]);
      nodes.push(
        await startDaemon(`${directory}/node${leg}.pid`, [
          "--blockdev",
          `driver=file,node-name=f,filename=${directory}/leg${leg}.img,cache.direct=on,aio=io_uring`,
          "--blockdev",
          "driver=raw,node-name=d,file=f",
          "--nbd-server",
          `addr.type=unix,addr.path=${directory}/node${leg}.sock,max-connections=8`,
          "--export",
          "type=nbd,id=e,node-name=d,name=leg,writable=on",
        ]),
      );
    }
    const client = await startDaemon(`${directory}/client.pid`, [
      "--blockdev",
      `driver=nbd,node-name=a,server.type=unix,server.path=${directory}/node1.sock,export=leg`,
      "--blockdev",
      `driver=nbd,node-name=b,server.type=unix,server.path=${directory}/node2.sock,export=leg`,
      "--blockdev",
      "driver=quorum,node-name=q,vote-threshold=2,children.0=a,children.1=b,read-pattern=fifo",
      "--nbd-server",
      `addr.type=unix,addr.path=${directory}/q.sock,max-connections=8`,
      "--export",
      "type=nbd,id=e,node-name=q,name=q,writable=on",
    ]);
    return {
      uri: `nbd+unix:///q?socket=${directory}/q.sock`,
      clientPid: client.pid,
      nodePids: nodes.map((node) => node.pid),
      stop: () => stopAll([client, ...nodes]),
    };
  } catch (error) {
    await stopAll(nodes);
    throw error;
  }
}
