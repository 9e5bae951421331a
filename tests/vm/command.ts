/**
 * Runs a command in guests: `deno task vm [OPTION]... -- COMMAND`. For trying things out; suites use `bed/bed.ts`.
 *
 * One COMMAND argument is the text of a bash script, several are a program and its arguments. It runs as root in the
 * caller's directory in every guest ($GUEST_NUMBER tells which, $GUEST_ADDRESS its address, guestN are the names); when it
 * ends in guest 1 the run ends, with its status.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { Bed } from "./bed/bed.ts";

const USAGE = `deno task vm [OPTION]... -- COMMAND
  -n, --guests N        guests on one private network [1]
  -m, --memory MIB      of each guest [1536]
  -c, --cpus N          of each guest [2 for one guest, else 1]
  -d, --disk MIB        a disk of that size for each guest (/dev/vda, ...); repeatable
  -M, --modules "A B"   modules to load first
  -e, --env NAME=VALUE  repeatable
      --nics N          network interfaces of each guest [1]
      --layer DIR       lay DIR over the root of the guests
      --no-rdma         no soft-RoCE
      --directory DIR   keep disks and logs in DIR
  -t, --timeout S       give up after S seconds, status 124
In a guest: GUEST_NUMBER, GUEST_COUNT, GUEST_ADDRESS, host names guest1, guest2, ...`;

const { values, positionals } = parseArgs({
  args: Deno.args[0] === "--" ? Deno.args.slice(1) : Deno.args,
  allowPositionals: true,
  options: {
    guests: { type: "string", short: "n", default: "1" },
    memory: { type: "string", short: "m" },
    cpus: { type: "string", short: "c" },
    disk: { type: "string", short: "d", multiple: true, default: [] },
    modules: { type: "string", short: "M", default: "" },
    env: { type: "string", short: "e", multiple: true, default: [] },
    nics: { type: "string", default: "1" },
    layer: { type: "string" },
    "no-rdma": { type: "boolean", default: false },
    directory: { type: "string" },
    timeout: { type: "string", short: "t" },
    help: { type: "boolean", short: "h", default: false },
  },
});
if (values.help || positionals.length === 0) {
  console.log(USAGE);
  Deno.exit(values.help ? 0 : 2);
}
const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
const script = positionals.length === 1 ? positionals[0] : `exec ${positionals.map(quote).join(" ")}`;

const bed = await Bed.open({
  guests: Number(values.guests),
  memoryMib: values.memory === undefined ? undefined : Number(values.memory),
  cpus: values.cpus === undefined ? undefined : Number(values.cpus),
  nics: Number(values.nics),
  rdma: !values["no-rdma"],
  modules: values.modules.split(" ").filter((name) => name !== ""),
  disks: values.disk.map((size) => ({ sizeMib: Number(size) })),
  layer: values.layer,
  environment: Object.fromEntries(values.env.map((pair) => pair.split(/=(.*)/s).slice(0, 2))),
  directory: values.directory,
});
let status = 124;
try {
  const commands = await Promise.all(bed.guests.map((guest) => guest.spawn(script)));
  let over = false;
  const follow = async (read: () => Promise<string>, write: (text: string) => void) => {
    for (let shown = 0, last = false; !last;) {
      last = over;
      const text = await read();
      if (text.length > shown) write(text.slice(shown));
      shown = text.length;
      if (!last) await new Promise((resolve) => setTimeout(resolve, 100));
    }
  };
  const writeAll = (stream: { writeSync(bytes: Uint8Array): number }) => (text: string) => {
    const bytes = new TextEncoder().encode(text);
    for (let at = 0; at < bytes.length;) at += stream.writeSync(bytes.subarray(at));
  };
  const shown = commands.flatMap((command) => [
    follow(() => command.stdout(), writeAll(Deno.stdout)),
    follow(() => command.stderr(), writeAll(Deno.stderr)),
  ]);
  const limit = Promise.withResolvers<null>();
  const timer = values.timeout === undefined
    ? undefined
    : setTimeout(() => limit.resolve(null), Number(values.timeout) * 1000);
  const end = await Promise.race([commands[0].ended, limit.promise]);
  clearTimeout(timer);
  over = true;
  await Promise.all(shown);
  if (end !== null) status = end.status;
} finally {
  await bed.close();
}
Deno.exit(status);
