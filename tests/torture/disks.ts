/**
 * The backing devices of a torture world: plain files, and files that nbdfuse makes of disks with faults.
 *
 * @module
 */

import { waitFor } from "../integration/cluster.ts";
import type { DiskTrouble } from "./fault_disk.ts";
import type { DiskOrder } from "./fault_disk_worker.ts";

const MOUNT_LIMIT_MS = 30_000;

/** The worker of the disks with faults. */
export class DiskRoom {
  readonly #worker = new Worker(new URL("./fault_disk_worker.ts", import.meta.url), { type: "module" });
  readonly #waiting = new Map<number, (result: Uint8Array | null) => void>();
  #nextId = 1;
  /** What the worker threw, if it did. */
  failure: string | null = null;

  constructor() {
    this.#worker.onmessage = ({ data }: MessageEvent<{ id: number; result: Uint8Array | null }>) => {
      this.#waiting.get(data.id)?.(data.result);
      this.#waiting.delete(data.id);
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.failure = event.message;
    };
  }

  ask(disk: number, order: DiskOrder): Promise<Uint8Array | null> {
    if (this.failure !== null) throw new Error(`The disks have failed: ${this.failure}`);
    const id = this.#nextId++;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#worker.postMessage({ id, disk, order });
    });
  }

  close(): void {
    this.#worker.terminate();
  }
}

/** The backing device of one leg. */
export interface LegDisk {
  /** The file that the leg is made on. */
  readonly path: string;
  /** Whether it can be made to misbehave. */
  readonly hasFaults: boolean;
  /** Makes the file be there. */
  start(): Promise<void>;
  trouble(trouble: DiskTrouble): Promise<void>;
  spoil(firstSector: number, sectorCount: number): Promise<void>;
  heal(): Promise<void>;
  /** The machine of the leg, whose processes have been killed, loses its power and comes back. */
  cyclePower(): Promise<void>;
  /** What it holds. */
  read(offset: number, lengthBytes: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** A plain file. Its faults are those of the machine that it is on: none. */
export class PlainDisk implements LegDisk {
  readonly path: string;
  readonly hasFaults = false;

  constructor(path: string) {
    this.path = path;
  }

  start(): Promise<void> {
    return Promise.resolve();
  }

  trouble(): Promise<void> {
    return Promise.resolve();
  }

  spoil(): Promise<void> {
    return Promise.resolve();
  }

  heal(): Promise<void> {
    return Promise.resolve();
  }

  cyclePower(): Promise<void> {
    return Promise.resolve();
  }

  async read(offset: number, lengthBytes: number): Promise<Uint8Array> {
    using file = await Deno.open(this.path);
    await file.seek(offset, Deno.SeekMode.Start);
    const bytes = new Uint8Array(lengthBytes);
    for (let done = 0; done < lengthBytes;) {
      const count = await file.read(bytes.subarray(done));
      if (count === null) throw new Error(`${this.path} ends at ${offset + done}`);
      done += count;
    }
    return bytes;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** A disk with faults, made a file by nbdfuse. */
export class MountedDisk implements LegDisk {
  readonly path: string;
  readonly hasFaults = true;
  readonly #room: DiskRoom;
  readonly #index: number;
  readonly #socketPath: string;
  readonly #sizeBytes: number;
  readonly #seed: number;
  #fuse: Deno.ChildProcess | null = null;

  constructor(room: DiskRoom, index: number, directory: string, sizeBytes: number, seed: number) {
    this.#room = room;
    this.#index = index;
    this.path = `${directory}/disk${index}.img`;
    this.#socketPath = `${directory}/disk${index}.sock`;
    this.#sizeBytes = sizeBytes;
    this.#seed = seed;
  }

  async start(): Promise<void> {
    await Deno.writeFile(this.path, new Uint8Array(0));
    await this.#room.ask(this.#index, {
      op: "create",
      sizeBytes: this.#sizeBytes,
      seed: this.#seed,
      socketPath: this.#socketPath,
    });
    await this.#mount();
  }

  async trouble(trouble: DiskTrouble): Promise<void> {
    await this.#room.ask(this.#index, { op: "trouble", trouble });
  }

  async spoil(firstSector: number, sectorCount: number): Promise<void> {
    await this.#room.ask(this.#index, { op: "spoil", firstSector, sectorCount });
  }

  async heal(): Promise<void> {
    await this.#room.ask(this.#index, { op: "heal" });
  }

  async cyclePower(): Promise<void> {
    await this.#room.ask(this.#index, { op: "power" });
    await this.#unmount();
    await this.#mount();
  }

  async read(offset: number, lengthBytes: number): Promise<Uint8Array> {
    return await this.#room.ask(this.#index, { op: "copy", offset, lengthBytes }) as Uint8Array;
  }

  async close(): Promise<void> {
    await this.#unmount();
    await this.#room.ask(this.#index, { op: "close" });
  }

  async #mount(): Promise<void> {
    const fuse = new Deno.Command("nbdfuse", {
      args: [this.path, "--unix", this.#socketPath],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    this.#fuse = fuse;
    const isMounted = async () => (await Deno.stat(this.path)).size === this.#sizeBytes;
    await waitFor(`nbdfuse to mount ${this.path}`, MOUNT_LIMIT_MS, isMounted, 20);
  }

  async #unmount(): Promise<void> {
    const fuse = this.#fuse;
    if (fuse === null) return;
    this.#fuse = null;
    try {
      fuse.kill("SIGKILL");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended already
    }
    await fuse.status;
    const { success } = await new Deno.Command("umount", { args: ["--lazy", this.path], stderr: "null" }).output();
    if (!success) throw new Error(`${this.path} cannot be unmounted`);
  }
}
