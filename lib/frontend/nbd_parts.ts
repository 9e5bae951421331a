/**
 * The parts of one connection's requests: opening them, handing them to the host, giving back what they hold.
 *
 * This is the one place that decides who owns a slot when a connection ends: parts at the host keep theirs and become
 * orphans (the server frees them when the host answers), all others are freed here, exactly once.
 *
 * @module
 */

import { RequestKind } from "./frontend.ts";
import type { NbdAdmission } from "./nbd_admission.ts";
import { Command } from "./nbd_protocol.ts";
import { type NbdRequestTable, NONE, PART_FILLING, PART_UNDER_WAY } from "./nbd_request_table.ts";

/** What the host calls each command. */
const HOST_KIND = new Uint8Array(8);
HOST_KIND[Command.READ] = RequestKind.READ;
HOST_KIND[Command.WRITE] = RequestKind.WRITE;
HOST_KIND[Command.FLUSH] = RequestKind.FLUSH;
HOST_KIND[Command.TRIM] = RequestKind.DISCARD;
HOST_KIND[Command.WRITE_ZEROES] = RequestKind.WRITE_ZEROES;

/** Parts of one connection. */
export class NbdParts {
  readonly #connection: number;
  readonly #admission: NbdAdmission;
  readonly #table: NbdRequestTable;
  /** Reads are answered by one simple reply each, so the parts of a read are kept in order. */
  readonly #ordered: boolean;

  constructor(connection: number, admission: NbdAdmission, ordered: boolean) {
    this.#connection = connection;
    this.#admission = admission;
    this.#table = admission.table;
    this.#ordered = ordered;
  }

  /**
   * Opens the next part of `request`. Returns it; the last part takes over the hold that the splitting had on the
   * request's `pending` and `unsent`.
   */
  open(request: number, slot: number, lengthBytes: number): number {
    const table = this.#table;
    const part = table.openPart(request, slot, lengthBytes);
    if (this.#ordered && table.command[request] === Command.READ) {
      if (table.lastPart[request] === NONE) table.firstPart[request] = part;
      else table.partNext[table.lastPart[request]] = part;
      table.lastPart[request] = part;
    }
    if (table.splitBytes[request] !== table.lengthBytes[request]) {
      table.pending[request]++;
      table.unsent[request]++;
    }
    return part;
  }

  /** Hands `part` to the host, which must be able to take it. The host may answer before this returns. */
  submit(part: number): void {
    const table = this.#table;
    const request = table.partRequest[part];
    table.partStatus[part] = PART_UNDER_WAY;
    this.#admission.host.submit(
      HOST_KIND[table.command[request]],
      table.hostFlags[request],
      table.partOffset[part],
      table.partLengthBytes[part],
      table.partSlot[part],
      part,
    );
  }

  /** Gives back the slot of `part`, if it has one. */
  release(part: number): void {
    const slot = this.#table.partSlot[part];
    if (slot === NONE) return;
    this.#table.partSlot[part] = NONE;
    this.#admission.free(this.#connection, slot);
  }

  /** Gives back `part` and its slot. */
  close(part: number): void {
    this.release(part);
    this.#table.closePart(part);
  }

  /**
   * `request` gets no answer any more. Its parts at the host become orphans; one that is being filled keeps its slot
   * until the stream is dead, since the kernel may be writing to it. `held`: it is still being split.
   */
  abandonRequest(request: number, held: boolean): void {
    const table = this.#table;
    table.connection[request] = NONE;
    for (let part = 0; part < table.partCapacity; part++) {
      if (table.partRequest[part] === request && table.partStatus[part] === PART_UNDER_WAY) {
        table.partConnection[part] = NONE;
      }
    }
    if (held) table.pending[request]--;
    if (table.pending[request] === 0) table.closeRequest(request);
  }

  /** The stream is dead: no part and no request belongs to this connection any more. */
  abandonConnection(): void {
    const table = this.#table;
    for (let part = 0; part < table.partCapacity; part++) {
      if (table.partConnection[part] !== this.#connection) continue;
      if (table.partStatus[part] === PART_UNDER_WAY) {
        table.partConnection[part] = NONE;
        continue;
      }
      if (table.partStatus[part] === PART_FILLING) {
        const request = table.partRequest[part];
        if (--table.pending[request] === 0 && table.connection[request] === NONE) table.closeRequest(request);
      }
      this.close(part);
    }
    for (let request = 0; request < table.requestCapacity; request++) {
      if (table.connection[request] !== this.#connection) continue;
      table.connection[request] = NONE;
      if (table.pending[request] === 0) table.closeRequest(request);
    }
    this.#admission.forgetConnection(this.#connection);
  }
}

/** The host has done `part`, whose connection is gone. */
export function closeOrphan(admission: NbdAdmission, part: number): void {
  const table = admission.table;
  const request = table.partRequest[part];
  const slot = table.partSlot[part];
  table.partSlot[part] = NONE;
  if (slot !== NONE) admission.free(NONE, slot);
  table.closePart(part);
  if (--table.pending[request] === 0) table.closeRequest(request);
}
