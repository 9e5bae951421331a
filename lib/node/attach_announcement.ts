/**
 * How an attach tells the rest of the machine of itself: the state file, the name of its device, and what a former attach of the
 * pool has left.
 *
 * @module
 */

import { type AttachState, attachState, removeAttachState, writeAttachState } from "../control/attach_state.ts";
import { ControlError } from "../control/control_api.ts";
import { type DeviceChoice, parseDeviceChoice } from "../frontend/device_choice.ts";
import { usesOf } from "../frontend/device_use.ts";
import { isInKernel, isOfPool } from "../frontend/left_device.ts";
import { makeDeviceLink, removeDeviceLink } from "./device_link.ts";

/** The kernel, as far as devices and their names are concerned; tests put another in its place. */
const runningKernel = { isInKernel, isOfPool, usesOf, makeDeviceLink, removeDeviceLink };
export type DeviceKernel = typeof runningKernel;

/** The announcement of one attach. */
export class AttachAnnouncement {
  readonly #dir: string;
  readonly #poolName: string;
  readonly #poolUuid: string;
  readonly #warn: (message: string) => void;
  readonly #kernel: DeviceKernel;
  #uris: readonly string[] = [];
  #generation = 0;
  /** What a dead attach has left here, until this one serves it. */
  #left: AttachState | null = null;
  #device: string | null = null;

  /** `warn` is told what does not work as it should. */
  constructor(
    dir: string,
    pool: { poolName: string; poolUuid: string },
    warn: (message: string) => void,
    kernel: DeviceKernel = runningKernel,
  ) {
    this.#kernel = kernel;
    this.#dir = dir;
    this.#poolName = pool.poolName;
    this.#poolUuid = pool.poolUuid;
    this.#warn = warn;
  }

  /** Where the pool is offered, the device first; empty before it is. */
  get uris(): readonly string[] {
    return this.#uris;
  }

  /** "/dev/ublkb0"; null without a block device. */
  get device(): string | null {
    return this.#device;
  }

  /** The claim under which a dead attach has served the device that it left; null where there is none, or it is not known. */
  get leftGeneration(): number | null {
    return this.#left?.generation ?? null;
  }

  /** Who uses the device, in plain words. */
  get uses(): string[] {
    return this.#device === null ? [] : this.#kernel.usesOf(this.#device);
  }

  /**
   * Whether this attach takes over the device that a former one has left: I/O waits on it, for ever if nobody does.
   * @throws {ControlError} "in-use"
   */
  checkLeft(choice: DeviceChoice | undefined): void {
    const state = attachState(this.#dir, this.#poolName);
    const left = state?.device ?? null;
    if (left === null || !this.#kernel.isOfPool(left, this.#poolUuid)) return;
    this.#left = state;
    const device = parseDeviceChoice(left)!;
    const isTaken = choice !== undefined && (choice.kind === "auto" || choice.kind === device.kind) &&
      (choice.index < 0 || choice.index === device.index);
    if (isTaken) return;
    throw new ControlError(
      "in-use",
      `A dead attach of ${this.#poolName} has left ${left}, and I/O on it waits. Take it over with --device ${left}, or ` +
        `remove it first: brmr detach ${this.#poolName}`,
    );
  }

  /** The pool is served, under the claim `generation`. */
  announce(uris: readonly string[], generation: number): void {
    this.#uris = uris;
    this.#generation = generation;
    this.#device = uris.find((uri) => uri.startsWith("/dev/")) ?? null;
    this.#write();
    if (this.#device !== null) this.#tell(this.#kernel.makeDeviceLink(this.#poolName, this.#device));
  }

  /**
   * The pool has another claim of this attach: it was assembled anew; or what a dead attach has left is about to be taken over, which stays
   * true of the device if this attach dies on the way.
   */
  claimedAnew(generation: number): void {
    this.#generation = generation;
    if (this.#uris.length > 0) this.#write();
    else if (this.#left !== null) writeAttachState(this.#dir, { ...this.#left, generation });
  }

  /** The pool is served no more. A device that stays in the kernel is told of until the next attach. */
  withdraw(): void {
    if (this.#uris.length === 0) return;
    if (this.#device !== null && this.#kernel.isInKernel(this.#device, this.#poolUuid)) return;
    removeAttachState(this.#dir, this.#poolName);
    if (this.#device !== null) this.#tell(this.#kernel.removeDeviceLink(this.#poolName, this.#device));
  }

  #write(): void {
    const [poolName, poolUuid, device, generation] = [this.#poolName, this.#poolUuid, this.#device, this.#generation];
    writeAttachState(this.#dir, {
      version: 1,
      poolName,
      poolUuid,
      pid: Deno.pid,
      device,
      uris: [...this.#uris],
      generation,
    });
  }

  #tell(message: string): void {
    if (message !== "") this.#warn(message);
  }
}
