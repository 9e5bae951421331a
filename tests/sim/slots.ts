/**
 * Payload memory of the simulated processes. A slot holds one integer for each 512-byte sector, so that payloads can be
 * followed through the system without moving bytes.
 *
 * Slots are also evidence: who owns each one is known at all times, and a slot that is freed twice, used after it was
 * freed, or never freed is a violation. The slots of a process die with it.
 *
 * @module
 */

import { Violation } from "./violation.ts";

/** Bytes one value stands for. */
export const SECTOR_BYTES = 512;

/** Who has a slot. */
export const SlotOwner = { NOBODY: 0, DRIVER: 1, CORE: 2, TRANSPORT: 3, APPLICATION: 4 } as const;
const OWNER_NAMES = ["nobody", "the driver", "the core", "the transport", "the application"];

/** A run of sectors in memory. */
export class Slot {
  readonly index: number;
  readonly values: Int32Array;
  owner = 0;
  /** The process it belongs to. */
  processId = -1;
  /** Sends that will still read it. */
  sends = 0;
  /** Place in the list of its process. */
  listIndex = -1;

  constructor(index: number, sectors: number) {
    this.index = index;
    this.values = new Int32Array(sectors);
  }
}

/** All slots of a world. Kept from world to world. */
export class SlotTable {
  #slots: Slot[] = [];
  /** By size class: class c holds `8 << c` sectors. */
  #free: Slot[][] = [];
  #byProcess: Slot[][] = [];

  /** Slots in use by a process. */
  usedBy(processId: number): readonly Slot[] {
    return this.#byProcess[processId] ?? [];
  }

  allocate(processId: number, lengthBytes: number, owner: number): Slot {
    const sectors = Math.ceil(lengthBytes / SECTOR_BYTES);
    let sizeClass = 0;
    while ((8 << sizeClass) < sectors) sizeClass++;
    while (this.#free.length <= sizeClass) this.#free.push([]);
    let slot = this.#free[sizeClass].pop();
    if (slot === undefined) {
      slot = new Slot(this.#slots.length, 8 << sizeClass);
      this.#slots.push(slot);
    }
    slot.owner = owner;
    slot.processId = processId;
    slot.sends = 0;
    while (this.#byProcess.length <= processId) this.#byProcess.push([]);
    const list = this.#byProcess[processId];
    slot.listIndex = list.length;
    list.push(slot);
    return slot;
  }

  /** The slot that a core names, which must belong to the process and to `owner`. */
  expect(index: number, processId: number, owner: number, use: string): Slot {
    const slot = this.#slots[index];
    if (slot === undefined || slot.processId !== processId || slot.owner !== owner) {
      const belongs = slot === undefined || slot.processId !== processId
        ? "no slot of the process"
        : OWNER_NAMES[slot.owner];
      throw new Violation(
        "slots",
        `${use} names slot ${index}, which must belong to ${OWNER_NAMES[owner]}, not ${belongs}`,
      );
    }
    return slot;
  }

  free(slot: Slot): void {
    const list = this.#byProcess[slot.processId];
    const last = list.pop()!;
    if (last !== slot) {
      list[slot.listIndex] = last;
      last.listIndex = slot.listIndex;
    }
    slot.owner = SlotOwner.NOBODY;
    slot.processId = -1;
    let sizeClass = 0;
    while ((8 << sizeClass) < slot.values.length) sizeClass++;
    this.#free[sizeClass].push(slot);
  }

  /** A process died and its memory with it. */
  freeAllOf(processId: number): void {
    const list = this.#byProcess[processId];
    while (list !== undefined && list.length > 0) this.free(list[list.length - 1]);
  }

  /** Everything to nobody, for the next world. */
  clear(): void {
    for (let i = 0; i < this.#byProcess.length; i++) this.freeAllOf(i);
  }
}
