/**
 * The memory of a fuzzed core: slots with an owner, and what a core may ask to be done with them.
 *
 * @module
 */

import assert from "node:assert/strict";
import { MemoryBufferPool } from "../../lib/io/memory_buffer_pool.ts";
import type { Output } from "../../lib/core/output.ts";
import { frameFault } from "../../lib/transport/frame_rules.ts";
import { encodeBody } from "../../lib/wire/body_codec.ts";
import { MAX_PAYLOAD_BYTES } from "../../lib/wire/message.ts";

const POOL_BYTES = 8 << 20;

/** See the module's description. */
export class FuzzSlots {
  readonly #pool = new MemoryBufferPool(POOL_BYTES);

  /** -1 when memory is short. A length that no slot can hold is the core's mistake. */
  allocate(lengthBytes: number): number {
    assert.ok(lengthBytes > 0 && lengthBytes <= MAX_PAYLOAD_BYTES, `No slot holds ${lengthBytes} bytes`);
    return this.#pool.allocate(lengthBytes);
  }

  fill(slot: number, payload: Uint8Array): void {
    this.#pool.bytes(slot).set(payload);
  }

  /** A double free fails. */
  free(slot: number): void {
    this.#pool.free(slot);
  }

  checkHolds(slot: number, lengthBytes: number): void {
    assert.ok(this.#pool.capacity(slot) >= lengthBytes, `Slot ${slot} holds ${lengthBytes} bytes`);
  }

  /** What the core sends is a frame that a transport takes. Frees its slot where the driver would. */
  checkSent(output: Output): void {
    const { message, slot, body } = output;
    if (body !== null) {
      assert.equal(slot, -1, "A frame has a body or a slot");
      message.payloadLength = encodeBody(message.type, body).length;
    }
    assert.equal(frameFault(message), null, `A frame of type ${message.type} with ${message.payloadLength} bytes`);
    if (slot < 0) {
      assert.ok(body !== null || message.payloadLength === 0);
      return;
    }
    this.checkHolds(slot, message.payloadLength);
    assert.ok(message.payloadLength > 0);
    if (output.freeAfterSend) this.free(slot);
  }

  checkEmpty(): void {
    assert.equal(this.#pool.usedBytes, 0, "No slot is lost");
  }
}
