/** The parts of the RDMA transport by themselves: offers, runs of pages, landing memory. */

import assert from "node:assert/strict";
import { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";
import { LandingMemory } from "../../../lib/transport/rdma/landing_memory.ts";
import { FrameQueue } from "../../../lib/transport/rdma/frame_queue.ts";
import { type RdmaLink, RECEIVE_COUNT } from "../../../lib/transport/rdma/link.ts";
import { decodeOffer, encodeOffer, OFFER_BYTES } from "../../../lib/transport/rdma/packet.ts";
import { PacketSender } from "../../../lib/transport/rdma/packet_sender.ts";
import { PageRuns } from "../../../lib/transport/rdma/page_runs.ts";
import { Message, MessageType } from "../../../lib/wire/message.ts";
import { Prng } from "../../../lib/base/prng.ts";

// libc is opened when first needed and stays open; here, so that no test is blamed for it.
new SlabBufferPool({ totalBytes: 1 << 20 });

Deno.test("an offer comes out as it went in; what is none is refused", () => {
  const offer = { receives: 128, landingAddress: 0x7fff_1234_5000, landingPages: 2048, landingKey: 0xffff_ffff };
  const bytes = new Uint8Array(OFFER_BYTES + 24); // the connection manager pads
  encodeOffer(offer, new DataView(bytes.buffer));
  assert.deepEqual(decodeOffer(bytes), offer);
  assert.equal(decodeOffer(bytes.subarray(0, OFFER_BYTES - 1)), null);
  bytes[0] ^= 1;
  assert.equal(decodeOffer(bytes), null);
  encodeOffer({ ...offer, receives: 1 }, new DataView(bytes.buffer));
  assert.equal(decodeOffer(bytes), null, "One receive cannot do");
});

Deno.test("runs of pages never overlap, are found when they exist, and are given back once", () => {
  const prng = new Prng(1);
  const pages = 64;
  const runs = new PageRuns(pages);
  const used: number[] = new Array(pages).fill(-1);
  const held = new Map<number, number>();
  for (let i = 0; i < 20_000; i++) {
    if (prng.below(2) === 0) {
      const count = 1 + prng.below(12);
      const first = runs.take(count);
      const exists = used.some((_, at) =>
        at + count <= pages && used.slice(at, at + count).every((each) => each === -1)
      );
      assert.equal(first >= 0, exists);
      if (first < 0) continue;
      for (let page = first; page < first + count; page++) {
        assert.equal(used[page], -1);
        used[page] = first;
      }
      held.set(first, count);
    } else {
      const page = prng.below(pages + 2);
      assert.equal(runs.give(page), held.has(page));
      if (held.delete(page)) used.forEach((first, at) => first === page && (used[at] = -1));
    }
  }
});

Deno.test("landed payloads are slots; the peer may not write there before it is told; late frees keep a landing", () => {
  const pool = new SlabBufferPool({ totalBytes: 8 << 20 });
  const memory = new LandingMemory(pool, 2);
  const landing = memory.take(0)!;
  assert.equal(memory.take(0), null, "All of it is in use");
  assert.equal(landing.pageCount, 256);
  assert.equal(landing.adopt(255, 5000), -1, "It would lie outside");
  assert.equal(landing.adopt(2 ** 31, 1), -1);
  const slot = landing.adopt(3, 5000);
  assert.equal(pool.capacity(slot), 8192);
  assert.equal(pool.address(slot), landing.address + 3 * 4096);
  assert.equal(pool.bytes(slot).length, 8192);
  assert.equal(landing.adopt(4, 1), -1, "It is in use");
  pool.free(slot);
  assert.equal(landing.adopt(4, 1), -1, "The peer does not know that it is free");
  assert.deepEqual([landing.freedCount, landing.freed[0], landing.freedPages], [1, 3, 2]);
  landing.told(1);
  assert.deepEqual([landing.freedCount, landing.freedPages], [0, 0]);
  const again = landing.adopt(4, 1);
  assert.ok(again >= 0);
  landing.release(0);
  assert.equal(memory.take(0), null, "A slot of it is in use");
  pool.free(again);
  assert.notEqual(memory.take(0), null);
});

Deno.test("a landing that a dying device may still reach is nobody's for a while", () => {
  const pool = new SlabBufferPool({ totalBytes: 8 << 20 });
  const memory = new LandingMemory(pool, 2);
  const landing = memory.take(0)!;
  landing.mayStillBeReached();
  landing.release(1000);
  assert.equal(memory.take(1000), null);
  assert.equal(memory.take(10_999), null);
  const next = memory.take(11_000)!;
  assert.notEqual(next, null);
  next.release(11_000);
  assert.notEqual(memory.take(11_000), null, "Its successor is another matter");
});

Deno.test("a peer that waits for memory is told of the first that is freed, whatever was sent to it meanwhile", () => {
  const pool = new SlabBufferPool({ totalBytes: 8 << 20 });
  const landing = new LandingMemory(pool, 2).take(0)!;
  const packets: DataView[] = [];
  const addSend = (_workId: number, address: number, lengthBytes: number) => {
    const at = landing.packets.byteOffset + address - landing.packetAddress;
    packets.push(new DataView(landing.packets.buffer.slice(at, at + lengthBytes)));
  };
  const link = { addSend } as Partial<RdmaLink> as RdmaLink;
  const queue = new FrameQueue(16);
  const offer = { receives: RECEIVE_COUNT, landingAddress: 0, landingPages: 256, landingKey: 1 };
  const sender = new PacketSender(queue, link, landing, offer, () => {});
  /** Pages that each packet since then has told to be free. */
  const told = () =>
    packets.splice(0).map((packet) =>
      Array.from({ length: packet.getUint32(8, true) }, (_, i) => packet.getUint32(16 + 4 * i, true))
    );
  const slots = [0, 1, 2].map((page) => landing.adopt(page, 4096));
  pool.free(slots[0]);
  sender.fill();
  assert.deepEqual(told(), [], "it can wait");
  sender.peerWaits = true;
  sender.fill();
  assert.deepEqual(told(), [[0]]);
  sender.peerWaits = true;
  queue.push(new Message().reset(MessageType.PING), null, 0, -1);
  sender.fill();
  assert.deepEqual(told(), [[]], "a frame, and nothing is free");
  pool.free(slots[1]);
  sender.fill();
  assert.deepEqual(told(), [[1]], "the peer still waits");
  pool.free(slots[2]);
  sender.fill();
  assert.deepEqual(told(), [], "it was told of some and waits no more");
});
