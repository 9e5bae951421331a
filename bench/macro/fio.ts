/**
 * Runs fio: one profile against an NBD URI, or against files. Gives rates, latencies and the number of I/Os.
 *
 * Numbers come from fio's own JSON. fio's nbd engine opens one connection per job.
 *
 * @module
 */

/** What fio shall do. */
export interface FioProfile {
  /** As tables show it. */
  readonly title: string;
  readonly rw: "randwrite" | "randread" | "write" | "read";
  readonly blockBytes: number;
  readonly depth: number;
  /** A flush after so many writes; none when left out. */
  readonly flushEvery?: number;
}

/** The five profiles that pools are compared on. */
export const PROFILES: readonly FioProfile[] = [
  { title: "4k randwrite QD32", rw: "randwrite", blockBytes: 4096, depth: 32 },
  { title: "4k randread QD32", rw: "randread", blockBytes: 4096, depth: 32 },
  { title: "4k seq write QD512", rw: "write", blockBytes: 4096, depth: 512 },
  { title: "128k seq write QD16", rw: "write", blockBytes: 131072, depth: 16 },
  { title: "4k randwrite QD1", rw: "randwrite", blockBytes: 4096, depth: 1 },
];

/** What one run gave. */
export interface FioResult {
  readonly ioCount: number;
  readonly iops: number;
  readonly bytesPerSecond: number;
  readonly meanLatencyUs: number;
  readonly p99LatencyUs: number;
  readonly maxLatencyUs: number;
}

/** Where the I/O goes. Several files are driven by one job each, at once; the result is the mean of one file. */
export type FioTarget = { readonly uri: string } | { readonly files: readonly string[] };

/** Runs a command to its end. Throws with its stderr when it fails. Returns stdout. */
export async function runTool(command: string, args: readonly string[]): Promise<string> {
  const output = await new Deno.Command(command, { args: [...args], stdin: "null", stdout: "piped", stderr: "piped" })
    .output();
  const decoder = new TextDecoder();
  if (output.code !== 0) {
    throw new Error(
      `"${command} ${args.join(" ")}" ended with ${output.code}: ${decoder.decode(output.stderr)}${
        decoder.decode(output.stdout).slice(-2000)
      }`,
    );
  }
  return decoder.decode(output.stdout);
}

interface FioSide {
  total_ios: number;
  iops: number;
  bw_bytes: number;
  lat_ns: { mean: number; max: number };
  clat_ns: { percentile?: Record<string, number> };
}

interface FioJob {
  error: number;
  read: FioSide;
  write: FioSide;
}

/** fio prints notes before its JSON. */
function parseFioJson(text: string): { jobs: FioJob[] } {
  const start = text.indexOf("\n{") === -1 ? text.indexOf("{") : text.indexOf("\n{");
  if (start < 0) throw new Error(`fio gave no JSON: ${text.slice(0, 500)}`);
  return JSON.parse(text.slice(start));
}

function targetArguments(target: FioTarget): string[] {
  if ("uri" in target) return ["--ioengine=nbd", `--uri=${target.uri}`, "--name=pool"];
  return [
    "--ioengine=io_uring",
    "--direct=1",
    ...target.files.flatMap((file, index) => [`--name=file${index}`, `--filename=${file}`]),
  ];
}

/** Runs `profile` for `seconds` over `sizeBytes` of the target from `offsetBytes` on. */
export async function runFio(
  target: FioTarget,
  profile: FioProfile,
  seconds: number,
  sizeBytes: number,
  offsetBytes = 0,
): Promise<FioResult> {
  const common = [
    `--rw=${profile.rw}`,
    `--bs=${profile.blockBytes}`,
    `--iodepth=${profile.depth}`,
    `--size=${sizeBytes}`,
    `--offset=${offsetBytes}`,
    "--time_based=1",
    `--runtime=${seconds}`,
    "--randrepeat=0",
    ...profile.flushEvery === undefined ? [] : [`--fsync=${profile.flushEvery}`],
    "--output-format=json",
  ];
  // Options before the first --name are global, and every --name opens a job.
  const { jobs } = parseFioJson(await runTool("fio", [...common, ...targetArguments(target)]));
  const sides = jobs.map((job) => (job.write.total_ios > 0 ? job.write : job.read));
  for (const job of jobs) if (job.error !== 0) throw new Error(`fio reports error ${job.error}`);
  const mean = (value: (side: FioSide) => number) => sides.reduce((sum, side) => sum + value(side), 0) / sides.length;
  return {
    ioCount: sides.reduce((sum, side) => sum + side.total_ios, 0),
    iops: mean((side) => side.iops),
    bytesPerSecond: mean((side) => side.bw_bytes),
    meanLatencyUs: mean((side) => side.lat_ns.mean) / 1000,
    p99LatencyUs: mean((side) => side.clat_ns.percentile?.["99.000000"] ?? 0) / 1000,
    maxLatencyUs: Math.max(...sides.map((side) => side.lat_ns.max)) / 1000,
  };
}

/** Writes every byte of a part of the target once, so that no run pays for the first allocation of its blocks. */
export async function fillOnce(target: FioTarget, sizeBytes: number, offsetBytes = 0): Promise<void> {
  await runTool("fio", [
    "--rw=write",
    "--bs=1M",
    "--iodepth=8",
    `--size=${sizeBytes}`,
    `--offset=${offsetBytes}`,
    "--output-format=json",
    ...targetArguments(target),
  ]);
}
