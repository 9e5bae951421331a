/**
 * The nearest userspace peer in C that runs without kernel modules: QEMU's quorum driver over two NBD legs, which is
 * RAID 1 over network block devices. Started as fairly as we know how:
 *
 * - the legs are files opened with cache.direct=on and aio=io_uring, as ours are;
 * - the processes speak over unix sockets: over loopback TCP QEMU 7.2 stalls on delayed acknowledgements and falls to a
 *   few hundred IOPS at depth 32, which would flatter whoever is compared with it;
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

async function startDaemon(pidFile: string, args: readonly string[]): Promise<number> {
  await runTool("qemu-storage-daemon", [...args, "--daemonize", "--pidfile", pidFile]);
  return Number(await Deno.readTextFile(pidFile));
}

async function stopAll(pids: readonly number[]): Promise<void> {
  for (const pid of pids) Deno.kill(pid, "SIGTERM");
  for (const pid of pids) {
    // They are daemons and not our children, so we can only look whether they are gone.
    for (let waitedMs = 0; waitedMs < 10_000; waitedMs += 50) {
      const alive = await new Deno.Command("kill", { args: ["-0", `${pid}`], stderr: "null" }).output();
      if (alive.code !== 0) break;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/** Starts two legs of `sizeBytes` in `directory` and the quorum over them. */
export async function startQuorum(directory: string, sizeBytes: number): Promise<QuorumPool> {
  const nodePids: number[] = [];
  try {
    for (const leg of ["1", "2"]) {
      await runTool("fallocate", ["-l", `${sizeBytes}`, `${directory}/leg${leg}.img`]);
      nodePids.push(
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
    const clientPid = await startDaemon(`${directory}/client.pid`, [
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
      clientPid,
      nodePids,
      stop: () => stopAll([clientPid, ...nodePids]),
    };
  } catch (error) {
    await stopAll(nodePids);
    throw error;
  }
}
