/**
 * One guest: a QEMU process, and the commands that run in it.
 *
 * Its root is this machine's, read-only, under a tmpfs: what is installed here runs there, and what it writes is gone with
 * it. Its disks outlive it. Commands run as root; their output is in files of the run's directory, which the guest writes
 * through 9p as it goes, so that what it said before a power cut is there.
 *
 * @module
 */

import { expectOutput } from "./host_command.ts";
import { writeOwnPart } from "./initramfs.ts";
import type { GuestKernel } from "./kernel.ts";
import { LineSocket } from "./line_socket.ts";
import { QemuProcess } from "./qemu_process.ts";

/** A virtio disk: `/dev/vda` is a guest's first, `/dev/vdb` its second. */
export interface GuestDisk {
  readonly sizeMib: number;
  /** "none" is O_DIRECT on the host. "unsafe", the default, never waits for the host's disk; it loses nothing when a guest is cut off. */
  readonly cache?: "none" | "unsafe" | "writeback";
}

/** What all guests of a bed have in common. */
export interface GuestPlan {
  readonly kernel: GuestKernel;
  readonly initramfs: string;
  readonly directory: string;
  readonly count: number;
  readonly memoryMib: number;
  readonly cpus: number;
  readonly nics: number;
  readonly mtu: number;
  readonly rdma: boolean;
  readonly modules: readonly string[];
  readonly disks: readonly GuestDisk[];
  /** A directory laid over the root of every guest: tools that are not installed on this machine. */
  readonly layer: string | null;
  readonly environment: Readonly<Record<string, string>>;
  readonly kernelArguments: string;
  /** A guest takes frames, or does not any longer. */
  readonly powered: (guest: number, isOn: boolean) => Promise<void>;
}

/** How a command in a guest ended. Status 137 and `wasCut` when the guest's power was. */
export interface GuestOutput {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly wasCut: boolean;
}

/** How long a guest may take from power on to its first command: seconds, and minutes on a machine that does other work too. */
const BOOT_LIMIT_MS = 300_000;
const POLL_MS = 50;

/** A command that was started in a guest. */
export class GuestCommand {
  readonly name: string;
  readonly #directory: string;
  readonly #signal: (name: string) => Promise<void>;
  readonly ended: Promise<GuestOutput>;
  #hasEnded = false;

  constructor(
    name: string,
    directory: string,
    ended: Promise<{ status: number; wasCut: boolean }>,
    signal: (name: string) => Promise<void>,
  ) {
    this.name = name;
    this.#directory = directory;
    this.#signal = signal;
    this.ended = ended.then(async ({ status, wasCut }) => {
      this.#hasEnded = true;
      return { status, wasCut, stdout: await this.stdout(), stderr: await this.stderr() };
    });
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** What it has written so far. */
  stdout(): Promise<string> {
    return Deno.readTextFile(`${this.#directory}/out`);
  }

  stderr(): Promise<string> {
    return Deno.readTextFile(`${this.#directory}/err`);
  }

  /** Both streams, for a failure's message. */
  async log(): Promise<string> {
    return `--- ${this.name}\n${await this.stdout()}${await this.stderr()}`;
  }

  /** Sends a signal ("KILL", "TERM") to it and all its processes. */
  async signal(name: string): Promise<void> {
    if (!this.#hasEnded) await this.#signal(name);
  }

  /** Sends a signal and waits for the end. */
  async stop(signal = "KILL"): Promise<GuestOutput> {
    await this.signal(signal);
    return await this.ended;
  }

  /** Waits for `pattern` on its standard output. Throws when it ends first, or has not said it after `limitMs`. */
  async waitFor(pattern: RegExp, limitMs = 120_000): Promise<RegExpExecArray> {
    const deadline = performance.now() + limitMs;
    for (;;) {
      const ended = this.#hasEnded; // looked at before its output, so that its last words count
      const match = pattern.exec(await this.stdout());
      if (match !== null) return match;
      if (ended || performance.now() > deadline) {
        throw new Error(`${this.name} ${ended ? "ended" : "went on"} without saying ${pattern}:\n${await this.log()}`);
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
}

/** One guest of a bed. */
export class Guest {
  readonly number: number;
  /** Its address on the first network, where its host name is guestN. */
  readonly address: string;
  readonly #plan: GuestPlan;
  readonly #directory: string;
  readonly #running = new Map<string, (end: { status: number; wasCut: boolean }) => void>();
  #qemu: QemuProcess | null = null;
  #control: LineSocket | null = null;
  #onReady: () => void = () => undefined;
  #commandCount = 0;
  #boots = 0;

  constructor(number: number, plan: GuestPlan) {
    this.number = number;
    this.address = this.addressOn(0);
    this.#plan = plan;
    this.#directory = `${plan.directory}/${number}`;
  }

  /** Its address on network `nic`. */
  addressOn(nic: number): string {
    return `10.77.${nic}.${this.number}`;
  }

  get isOn(): boolean {
    return this.#qemu !== null;
  }

  /** Path on this machine of disk `index`. */
  diskPath(index: number): string {
    return `${this.#directory}/disk${index}.img`;
  }

  /** Turns it on; resolves when it takes commands. */
  async start(): Promise<void> {
    if (this.#qemu !== null) throw new Error(`Guest ${this.number} is on`);
    const boot = ++this.#boots;
    await Deno.mkdir(`${this.#directory}/exchange`, { recursive: true });
    await this.#makeDisks();
    await this.#writeInitramfs();
    const controlPath = `${this.#directory}/control${boot}`;
    const qemu = await QemuProcess.start(
      await this.#arguments(controlPath),
      `${this.#directory}/monitor${boot}`,
      `${this.#directory}/qemu.log`,
    );
    this.#qemu = qemu;
    const ready = new Promise<void>((resolve) => this.#onReady = resolve);
    this.#control = await LineSocket.connect(controlPath, (line) => this.#onLine(line));
    let timer: ReturnType<typeof setTimeout> | undefined;
    const limit = new Promise<string>((resolve) => {
      timer = setTimeout(() => resolve(`was not up after ${BOOT_LIMIT_MS} ms`), BOOT_LIMIT_MS);
    });
    const ended = qemu.ended.then((said) => `ended while it was starting: ${said}`);
    const failure = await Promise.race([ready.then(() => ""), ended, limit]);
    clearTimeout(timer);
    if (failure !== "") {
      await this.powerCut();
      throw new Error(`Guest ${this.number} ${failure}\n${await this.console()}`);
    }
    await this.#plan.powered(this.number, true);
  }

  /** Ends it as a power cut does: what it had not written to its disks is lost. */
  async powerCut(): Promise<void> {
    const qemu = this.#qemu;
    if (qemu === null) return;
    this.#qemu = null;
    await qemu.kill();
    await this.#plan.powered(this.number, false);
    await this.#control?.close();
    this.#control = null;
    for (const end of this.#running.values()) end({ status: 137, wasCut: true });
    this.#running.clear();
  }

  /** Freezes it: it neither answers nor notices. */
  pause(): Promise<void> {
    return this.monitor("stop");
  }

  /** Thaws it. */
  resume(): Promise<void> {
    return this.monitor("cont");
  }

  /** Plugs or unplugs the cable of a network interface, which the guest notices. */
  plug(isPlugged: boolean, nic = 0): Promise<void> {
    return this.monitor("set_link", { name: `nic${nic}`, up: isPlugged });
  }

  /** A command of QEMU's monitor. */
  async monitor(command: string, args: Record<string, unknown> = {}): Promise<void> {
    if (this.#qemu === null) throw new Error(`Guest ${this.number} is off`);
    await this.#qemu.command(command, args);
  }

  /** What its kernel printed. */
  async console(): Promise<string> {
    return (await Deno.readTextFile(`${this.#directory}/console.log`).catch(() => "")).slice(-6000);
  }

  /** Starts a bash script. `exec PROGRAM` as its last line lets signals reach the program at once. */
  async spawn(script: string, name = script): Promise<GuestCommand> {
    if (this.#control === null) throw new Error(`Guest ${this.number} is off; it cannot run: ${name}`);
    const id = String(++this.#commandCount);
    const directory = `${this.#directory}/exchange/${id}`;
    await Deno.mkdir(directory);
    for (const file of ["out", "err"]) await Deno.writeTextFile(`${directory}/${file}`, "");
    await Deno.writeTextFile(`${directory}/script`, script + "\n");
    const { promise, resolve } = Promise.withResolvers<{ status: number; wasCut: boolean }>();
    this.#running.set(id, resolve);
    const control = this.#control;
    await control.send(`run ${id}`);
    return new GuestCommand(`guest ${this.number}: ${name}`, directory, promise, (signal) => {
      return control.send(`signal ${id} ${signal}`);
    });
  }

  /** Runs a bash script to its end; kills it, which is status 137, after `limitMs`. */
  async run(script: string, limitMs = 120_000): Promise<GuestOutput> {
    const command = await this.spawn(script);
    const timer = setTimeout(() => void command.signal("KILL"), limitMs);
    return await command.ended.finally(() => clearTimeout(timer));
  }

  /** Runs a bash script that must end with 0; returns its stdout. */
  async expect(script: string, limitMs = 120_000): Promise<string> {
    const { status, stdout, stderr } = await this.run(script, limitMs);
    if (status !== 0) throw new Error(`guest ${this.number}: "${script}" ended with ${status}:\n${stdout}${stderr}`);
    return stdout;
  }

  #onLine(line: string): void {
    const [word, id, status] = line.split(" ");
    if (word === "ready") return this.#onReady();
    if (word !== "done") throw new Error(`Guest ${this.number} said: ${line}`);
    this.#running.get(id)?.({ status: Number(status), wasCut: false });
    this.#running.delete(id);
  }

  async #makeDisks(): Promise<void> {
    for (const [index, { sizeMib }] of this.#plan.disks.entries()) {
      const file = await Deno.open(this.diskPath(index), { create: true, write: true });
      if ((await file.stat()).size === 0) await file.truncate(sizeMib * 1048576);
      file.close();
    }
  }

  async #writeInitramfs(): Promise<void> {
    const plan = this.#plan;
    const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
    const environment: Record<string, string> = {
      ...{ PATH: `${Deno.env.get("PATH")}:/usr/sbin:/sbin`, HOME: Deno.env.get("HOME") ?? "/root", LANG: "C.UTF-8" },
      ...plan.environment,
    };
    const lines = [
      `GUEST_NUMBER=${this.number} GUEST_COUNT=${plan.count} GUEST_NICS=${plan.nics} GUEST_MTU=${plan.mtu}`,
      `GUEST_RDMA=${plan.rdma ? 1 : 0} GUEST_HAS_LAYER=${plan.layer === null ? 0 : 1}`,
      `GUEST_MODULES=${quote(plan.kernel.modules)}`,
      `GUEST_EXTRA_MODULES=${quote(plan.modules.join(" "))}`,
      `GUEST_DIRECTORY=${quote(`${this.#directory}/exchange`)}`,
      `GUEST_WORKING_DIRECTORY=${quote(Deno.cwd())}`,
      ...Object.entries(environment).map(([name, value]) => `export ${name}=${quote(value)}`),
    ];
    const own = `${this.#directory}/own.cpio`;
    const agent = await Deno.readTextFile(new URL("agent.sh", import.meta.url));
    await writeOwnPart({ "env": lines.join("\n") + "\n", "agent.sh": agent }, own);
    // The kernel unpacks one archive after the other.
    await expectOutput("sh", ["-c", 'cat "$1" "$2" >"$3"', "sh", plan.initramfs, own, `${this.#directory}/initramfs`]);
  }

  async #arguments(controlPath: string): Promise<string[]> {
    const { kernel, cpus, memoryMib, disks, nics, mtu, layer, count, directory } = this.#plan;
    const own = this.#directory;
    const args = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-accel", "tcg,thread=multi"];
    // Without carry-less multiplication soft-RoCE checksums by table, which is faster than multiplying under emulation; and
    // without fast string instructions the kernel and libc copy whole words, where emulation would move byte by byte.
    args.push("-cpu", "max,la57=off,-pclmulqdq,-erms,-fsrm", "-smp", `${cpus}`, "-m", `${memoryMib}`);
    args.push("-kernel", kernel.image, "-initrd", `${own}/initramfs`, "-append", await this.#kernelArguments());
    args.push("-chardev", `file,id=console,path=${own}/console.log,append=on`, "-serial", "chardev:console");
    args.push("-object", "rng-builtin,id=rng", "-device", "virtio-rng-pci,rng=rng", "-device", "virtio-serial-pci");
    args.push("-chardev", `socket,id=control,path=${controlPath},server=on,wait=off`);
    args.push("-device", "virtserialport,chardev=control,name=control");
    const share = (tag: string, path: string, options: string) => {
      args.push("-fsdev", `local,id=${tag},path=${path},security_model=none,multidevs=remap${options}`);
      args.push("-device", `virtio-9p-pci,fsdev=${tag},mount_tag=${tag}`);
    };
    share("root", "/", ",readonly=on");
    share("exchange", `${own}/exchange`, "");
    if (layer !== null) share("layer", layer, ",readonly=on");
    for (let k = 0; k < nics; k++) {
      // A guest alone gets a socket that nobody connects to: its frames are dropped.
      const server = count > 1 ? "off" : "on";
      args.push(
        "-netdev",
        `stream,id=net${k},server=${server},addr.type=unix,addr.path=${directory}/net${k}-${this.number}`,
      );
      const mac = `52:54:00:77:${hexByte(k)}:${hexByte(this.number)}`;
      args.push("-device", `virtio-net-pci,netdev=net${k},id=nic${k},host_mtu=${mtu},romfile=,mac=${mac}`);
    }
    disks.forEach(({ cache = "unsafe" }, index) => {
      const aio = cache === "none" ? "native" : "threads";
      const file = `file=${this.diskPath(index)},format=raw,if=none,id=disk${index}`;
      args.push("-drive", `${file},cache=${cache},aio=${aio},discard=unmap`);
      args.push("-device", `virtio-blk-pci,drive=disk${index},serial=disk${index},num-queues=${cpus}`);
    });
    return args;
  }

  async #kernelArguments(): Promise<string> {
    return [
      "console=ttyS0 quiet loglevel=4 panic=-1 net.ifnames=0",
      // What takes time under emulation and protects nobody in a guest that lives for minutes.
      "nokaslr mitigations=off audit=0 apparmor=0 nowatchdog rcupdate.rcu_expedited=1 init_on_alloc=0",
      // The emulated clock is the host's.
      `no_timer_check tsc=reliable random.trust_cpu=on ${await clockArgument()}`,
      this.#plan.kernelArguments,
    ].join(" ");
  }
}

/**
 * Tells a guest the rate of its clock, which is this machine's time stamp counter. It would measure it against an emulated
 * timer, and on a busy machine be wrong by a factor: three seconds of a heartbeat then were one. Only where the rate can be
 * read: without frequency scaling, as in virtual machines.
 */
async function clockArgument(): Promise<string> {
  const script = "[ -e /sys/devices/system/cpu/cpu0/cpufreq ] || cat /proc/cpuinfo";
  const mhz = /^cpu MHz\s*: (\d+\.\d+)$/m.exec(await expectOutput("sh", ["-c", script]))?.[1];
  return mhz === undefined ? "" : `tsc_early_khz=${Math.round(Number(mhz) * 1000)}`;
}

function hexByte(value: number): string {
  return value.toString(16).padStart(2, "0");
}
