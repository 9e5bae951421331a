/**
 * What all simulated processes have in common: lives, an alarm clock, and a place in the network.
 *
 * @module
 */

import { type Dialect, OUR_DIALECT } from "../../lib/wire/negotiate.ts";
import { EventKind } from "./event_kind.ts";
import type { Frame } from "./network.ts";
import type { Message } from "../../lib/wire/message.ts";
import { type Slot, SlotOwner } from "./slots.ts";
import type { World } from "./world.ts";

/** What clocks show when a world begins: they count from the start of their machines. */
export const UPTIME_MS = 100_000;

/** A process that can be killed, paused and started again. */
export abstract class Process {
  readonly world: World;
  /** Place in the world's list; also the owner id of its slots. */
  readonly id: number;
  readonly name: string;
  /** Grows with every start and every end, so that what was meant for an earlier life is told apart. */
  life = 0;
  alive = false;
  /** Whether the machine has power: a dead process on a live machine is noticed at once. */
  powered = true;
  /** Whether it listens. */
  accepts = false;
  /** Whether payloads are placed ahead of delivery. */
  placesPayloads = false;
  /** Stopped (SIGSTOP) until then. */
  pausedUntilMs = 0;
  /** Factor on network and disk delays. */
  slowness = 1;
  /** How far its clock is behind the world's: it stands still while its machine is suspended. */
  lagMs = 0;
  /** How far its wall clock is off. */
  wallErrorMs = 0;
  /** Protocol versions and features of the program that is installed; what runs is of the time of its start. */
  installed: Dialect = OUR_DIALECT;
  /** Outputs are carried out up to this much later than the input that caused them. */
  turnMs = 0;
  #alarmMs = Infinity;
  #alarmSerial = 0;
  #drainPending = false;

  constructor(world: World, id: number, name: string) {
    this.world = world;
    this.id = id;
    this.name = name;
  }

  /** What its clock shows. */
  get clockMs(): number {
    return this.world.nowMs + UPTIME_MS - this.lagMs;
  }

  get wallMs(): number {
    return Math.max(0, this.world.nowMs + this.wallErrorMs);
  }

  /** When its core wants to be called. */
  abstract readonly nextDeadlineMs: number;
  protected abstract tick(nowMs: number): void;
  /** Carries out the outputs of its core. */
  protected abstract drain(): void;
  abstract checkInvariants(): void;
  abstract onAccepted(connection: number): void;
  abstract onConnected(tag: number, connection: number): void;
  abstract onConnectFailed(tag: number): void;
  abstract onClosed(connection: number): void;
  abstract onFrame(connection: number, frame: Frame): void;
  abstract placePayload(connection: number, message: Message): number;

  /** Ends at once. `power`: its machine too. */
  abstract kill(power: boolean): void;

  /** Begins a life. */
  protected begin(): void {
    this.life++;
    this.alive = true;
    this.powered = true;
    this.pausedUntilMs = 0;
    this.#alarmMs = Infinity;
    this.#alarmSerial++;
    this.#drainPending = false;
  }

  /** Ends a life: memory is gone, connections close or fall silent. */
  protected end(power: boolean): void {
    this.life++;
    this.alive = false;
    this.accepts = false;
    this.powered = !power;
    this.world.network.processDied(this, !power);
    this.world.slots.freeAllOf(this.id);
  }

  /** An input was handled: outputs are carried out, invariants checked, the alarm set. */
  protected settle(): void {
    if (this.turnMs === 0) this.drainNow();
    else if (!this.#drainPending) {
      this.#drainPending = true;
      const world = this.world;
      world.heap.push(world.nowMs + world.prng.fraction() * this.turnMs, EventKind.DRAIN, this, this.life);
    }
  }

  drainNow(): void {
    this.#drainPending = false;
    const life = this.life;
    this.drain();
    if (this.life !== life) return;
    this.checkInvariants();
    const deadlineMs = this.nextDeadlineMs;
    if (deadlineMs !== this.#alarmMs) {
      this.#alarmMs = deadlineMs;
      this.#alarmSerial++;
      if (deadlineMs !== Infinity) {
        const atMs = Math.max(deadlineMs - UPTIME_MS + this.lagMs, this.world.nowMs);
        this.world.heap.push(atMs, EventKind.ALARM, this, this.life).a = this.#alarmSerial;
      }
    }
  }

  onAlarm(serial: number): void {
    if (serial !== this.#alarmSerial) return;
    // Never before what was asked for: adding and taking away the lag may round.
    const nowMs = Math.max(this.clockMs, this.#alarmMs);
    this.#alarmMs = Infinity;
    this.tick(nowMs);
    this.settle();
  }

  /** The transport no longer reads a slot. */
  onSent(slot: Slot, freeAfterSend: boolean): void {
    if (!freeAfterSend) return;
    if (slot.sends === 0) this.world.slots.free(slot);
    else slot.owner = SlotOwner.TRANSPORT;
  }
}
