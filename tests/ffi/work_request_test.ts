/** Chains of work requests are what a C program that walks them would read. */

import assert from "node:assert/strict";
import { ReceiveChain, SendChain } from "../../ffi/verbs/work_request.ts";

/** IBV_SEND_*. */
const SIGNALED = 2, SOLICITED = 4, INLINE = 8;

function view(address: number): Deno.UnsafePointerView {
  return new Deno.UnsafePointerView(Deno.UnsafePointer.create(BigInt(address))!);
}

interface Request {
  readonly workId: bigint;
  readonly opcode: number;
  readonly flags: number;
  readonly address: bigint;
  readonly lengthBytes: number;
  readonly key: number;
  readonly remoteAddress: bigint;
  readonly remoteKey: number;
}

function walkSends(chain: SendChain): Request[] {
  const requests: Request[] = [];
  for (let at = chain.address; at !== 0;) {
    const request = view(at);
    assert.equal(request.getInt32(24), 1);
    const piece = view(Number(request.getBigUint64(16)));
    requests.push({
      workId: request.getBigUint64(0),
      opcode: request.getInt32(28),
      flags: request.getInt32(32),
      address: piece.getBigUint64(0),
      lengthBytes: piece.getUint32(8),
      key: piece.getUint32(12),
      remoteAddress: request.getBigUint64(40),
      remoteKey: request.getUint32(48),
    });
    at = Number(request.getBigUint64(8));
  }
  return requests;
}

Deno.test("a chain of writes and a send, built again after it was emptied", () => {
  const chain = new SendChain(3);
  for (const base of [0x7fff_1234_5000, 4096]) {
    chain.clear();
    chain.addWrite(base, 4096, 0xffff_fff0, base + 8192, 0x8000_0001);
    chain.addWrite(base + 4096, 512, 1, 2, 3);
    assert.ok(!chain.isFull);
    chain.addSend(77, base + 64, 100, 9, true);
    assert.ok(chain.isFull);
    const requests = walkSends(chain);
    assert.equal(requests.length, 3);
    assert.deepEqual({ ...requests[0] }, {
      workId: 0n,
      opcode: 0,
      flags: 0,
      address: BigInt(base),
      lengthBytes: 4096,
      key: 0xffff_fff0,
      remoteAddress: BigInt(base + 8192),
      remoteKey: 0x8000_0001,
    });
    assert.equal(requests[1].lengthBytes, 512);
    assert.deepEqual([requests[2].workId, requests[2].opcode, requests[2].flags], [
      77n,
      2,
      SIGNALED | SOLICITED | INLINE,
    ]);
  }
  chain.clear();
  chain.addSend(1, 4096, 8, 9, false);
  assert.deepEqual(walkSends(chain).map((each) => [each.opcode, each.flags]), [[2, SIGNALED | SOLICITED]]);
});

Deno.test("a chain of receives ends after the last one added", () => {
  const chain = new ReceiveChain(4);
  for (const count of [4, 2]) {
    chain.clear();
    for (let i = 0; i < count; i++) chain.add(10 + i, 4096 * (i + 1), 4096, 5);
    let seen = 0;
    for (let at = chain.address; at !== 0; seen++) {
      const request = view(at);
      assert.equal(request.getBigUint64(0), BigInt(10 + seen));
      assert.equal(view(Number(request.getBigUint64(16))).getBigUint64(0), BigInt(4096 * (seen + 1)));
      at = Number(request.getBigUint64(8));
    }
    assert.equal(seen, count);
  }
});
