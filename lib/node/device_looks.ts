/**
 * Whether devices answer. The data plane opens a leg synchronously, and all its legs wait for that: so a device that may hang is looked at by
 * somebody first who can wait for it.
 *
 * @module
 */

import { ControlError } from "../control/control_api.ts";
import type { DeviceWork } from "./device_workers.ts";

/** How long a device may take. */
const LIMIT_MS = 10_000;
/** Devices that may hang at a time: each takes one of the workers that other work needs as well. */
const MOST_HUNG = 2;

/** The looks of one node. */
export class DeviceLooks {
  readonly #devices: DeviceWork;
  readonly #limitMs: number;
  /** By path: those that have not ended. */
  readonly #underWay = new Map<string, Promise<void>>();

  constructor(devices: DeviceWork, limitMs = LIMIT_MS) {
    this.#devices = devices;
    this.#limitMs = limitMs;
  }

  /**
   * Returns when the leg at `path` could be opened a moment ago.
   * @throws {ControlError} what is wrong with it; "device" when it does not answer
   */
  async look(path: string): Promise<void> {
    if (!this.#underWay.has(path) && this.#underWay.size >= MOST_HUNG) {
      throw new ControlError("device", `"${path}" was not asked: ${MOST_HUNG} other disks of this node do not answer`);
    }
    const silence = `"${path}" does not answer: its disk hangs, or takes more than ${this.#limitMs / 1000} s`;
    const under = this.#underWay.get(path) ?? this.#begin(path);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const limit = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new ControlError("device", silence)), this.#limitMs);
    });
    try {
      await Promise.race([under, limit]);
    } finally {
      clearTimeout(timer);
    }
  }

  #begin(path: string): Promise<void> {
    const look = this.#devices.look(path).finally(() => this.#underWay.delete(path));
    look.catch(() => undefined); // told to whoever still waits for it
    this.#underWay.set(path, look);
    return look;
  }
}
