/**
 * What processes used of the machine: CPU time and resident memory, from `/proc`.
 *
 * Read through `cat`: Deno's own file API asks for every permission there is before it opens anything in `/proc`.
 *
 * @module
 */

import { runTool } from "./fio.ts";

/** `sysconf(_SC_CLK_TCK)`: 100 on every Linux that Deno runs on. */
const TICKS_PER_SECOND = 100;

/** CPU seconds (user and system, all threads, io_uring's kernel workers included) that the processes used so far. */
export async function cpuSeconds(pids: readonly number[]): Promise<number> {
  const text = await runTool("cat", pids.map((pid) => `/proc/${pid}/stat`));
  let ticks = 0;
  for (const line of text.trim().split("\n")) {
    // The second field is the command in parentheses and may hold blanks: count from behind it.
    const fields = line.slice(line.lastIndexOf(")") + 2).split(" ");
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / TICKS_PER_SECOND;
}

/** Resident bytes of a process, now and at its peak. */
export async function residentBytes(pid: number): Promise<{ nowBytes: number; peakBytes: number }> {
  const text = await runTool("cat", [`/proc/${pid}/status`]);
  const kibibytes = (key: string) => Number(new RegExp(`${key}:\\s+(\\d+) kB`).exec(text)?.[1] ?? NaN);
  return { nowBytes: kibibytes("VmRSS") * 1024, peakBytes: kibibytes("VmHWM") * 1024 };
}

/** Bytes that a process sent to block devices so far, metadata included; what O_DIRECT writes count as. */
export async function blockWriteBytes(pid: number): Promise<number> {
  const text = await runTool("cat", [`/proc/${pid}/io`]);
  return Number(/^write_bytes: (\d+)$/m.exec(text)?.[1] ?? NaN);
}
