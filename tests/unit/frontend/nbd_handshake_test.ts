import { deepStrictEqual, match, strictEqual } from "node:assert/strict";
import { type HarnessOptions, type NbdClient, NbdHarness, Opt } from "./nbd_harness.ts";
import {
  be16,
  be32,
  concat,
  contextData,
  infoData,
  option,
  type OptionAnswer,
  readOptionAnswers,
  text,
  WireReader,
} from "./nbd_wire.ts";

const ACK = 1;
const SERVER = 2;
const INFO = 3;
const META_CONTEXT = 4;
const ERR_UNSUP = 0x80000001;
const ERR_INVALID = 0x80000003;
const ERR_UNKNOWN = 0x80000006;
const ERR_TOO_BIG = 0x80000009;

interface Haggler {
  harness: NbdHarness;
  client: NbdClient;
  ask(type: number, data?: Uint8Array): OptionAnswer[];
}

/** A client past the greeting. */
function haggle(options: HarnessOptions = {}, clientFlags = 3): Haggler {
  const harness = new NbdHarness(options);
  const client = harness.connect();
  harness.settle();
  client.takeBytes();
  client.send(be32(clientFlags));
  const ask = (type: number, data?: Uint8Array) => {
    client.send(option(type, data));
    harness.settle();
    return readOptionAnswers(new WireReader(client.takeBytes()));
  };
  return { harness, client, ask };
}

function types(answers: OptionAnswer[]): number[] {
  return answers.map((answer) => answer.type);
}

/** Info payloads by type. */
function infos(answers: OptionAnswer[]): Map<number, WireReader> {
  const found = new Map<number, WireReader>();
  for (const answer of answers) {
    if (answer.type !== INFO) continue;
    const reader = new WireReader(answer.data);
    const type = reader.u16();
    strictEqual(found.has(type), false, "an info appears once");
    found.set(type, reader);
  }
  return found;
}

function assertAlive(haggler: Haggler): void {
  strictEqual(haggler.client.stream.isClosed, false);
  deepStrictEqual(types(haggler.ask(Opt.LIST)), [SERVER, ACK]);
}

Deno.test("the greeting offers fixed newstyle without zeroes", () => {
  const harness = new NbdHarness();
  const client = harness.connect();
  harness.settle();
  deepStrictEqual(client.takeBytes(), concat(text("NBDMAGICIHAVEOPT"), be16(3)));
});

Deno.test("unknown client flags end the connection", () => {
  const { harness, client } = haggle({}, 4);
  harness.settle();
  strictEqual(client.stream.isClosed, true);
  strictEqual(harness.server.connectionCount, 0);
});

Deno.test("a client without fixed newstyle may only send EXPORT_NAME", () => {
  const plain = haggle({}, 0);
  plain.ask(Opt.LIST);
  strictEqual(plain.client.stream.isClosed, true);
  const named = haggle({}, 0);
  named.client.send(option(Opt.EXPORT_NAME, text("vol1")));
  named.harness.settle();
  strictEqual(named.client.stream.isClosed, false);
  strictEqual(named.client.takeBytes().length, 134);
});

Deno.test("a wrong option magic ends the connection", () => {
  const { harness, client } = haggle();
  client.send(text("IHAVEOPX"), be32(3, 0));
  harness.settle();
  strictEqual(client.stream.isClosed, true);
});

Deno.test("EXPORT_NAME answers size and flags, padded unless NO_ZEROES", () => {
  for (const [clientFlags, length] of [[1, 134], [3, 10]]) {
    const { harness, client } = haggle({ geometry: { sizeBytes: 5 * 1024 * 1024 } }, clientFlags);
    client.send(option(Opt.EXPORT_NAME, text("vol1")));
    harness.settle();
    const reply = new WireReader(client.takeBytes());
    strictEqual(reply.left, length);
    strictEqual(reply.u64(), 5 * 1024 * 1024);
    strictEqual(reply.u16(), 0b101_0110_1101);
    strictEqual(reply.bytes(reply.left).every((byte) => byte === 0), true);
    strictEqual(client.ask(3).error, 0, "transmission has begun");
  }
});

Deno.test("EXPORT_NAME takes the empty name and ends the connection for an unknown one", () => {
  const empty = haggle();
  empty.client.send(option(Opt.EXPORT_NAME));
  empty.harness.settle();
  strictEqual(empty.client.takeBytes().length, 10);
  const unknown = haggle();
  unknown.client.send(option(Opt.EXPORT_NAME, text("vol2")));
  unknown.harness.settle();
  strictEqual(unknown.client.takeBytes().length, 0);
  strictEqual(unknown.client.stream.isClosed, true);
});

Deno.test("LIST tells name and description, and refuses data", () => {
  const haggler = haggle();
  const answers = haggler.ask(Opt.LIST);
  deepStrictEqual(types(answers), [SERVER, ACK]);
  const server = new WireReader(answers[0].data);
  strictEqual(server.text(server.u32()), "vol1");
  strictEqual(server.text(server.left), 'replicated pool "vol1"');
  deepStrictEqual(types(haggler.ask(Opt.LIST, text("x"))), [ERR_INVALID]);
  assertAlive(haggler);
});

Deno.test("INFO gives what was asked for, and always export and block size", () => {
  const haggler = haggle({ geometry: { logicalBlockBytes: 4096 } });
  const bare = haggler.ask(Opt.INFO, infoData("vol1"));
  strictEqual(types(bare).at(-1), ACK);
  deepStrictEqual([...infos(bare).keys()].sort(), [0, 3]);
  const full = haggler.ask(Opt.INFO, infoData("", 1, 2, 3, 77));
  const found = infos(full);
  deepStrictEqual([...found.keys()].sort(), [0, 1, 2, 3]);
  const exportInfo = found.get(0)!;
  strictEqual(exportInfo.left, 10);
  strictEqual(exportInfo.u64(), 64 << 20);
  strictEqual(found.get(1)!.text(found.get(1)!.left), "vol1");
  match(found.get(2)!.text(found.get(2)!.left), /replicated pool/);
  const size = found.get(3)!;
  deepStrictEqual([size.u32(), size.u32(), size.u32(), size.left], [4096, 4096, 32 << 20, 0]);
  assertAlive(haggler);
});

Deno.test("flags: DF only with structured replies, no writing commands on a read-only pool", () => {
  const flagsOf = (haggler: Haggler): number => {
    const reader = infos(haggler.ask(Opt.INFO, infoData("vol1"))).get(0)!;
    reader.u64();
    return reader.u16();
  };
  const plain = haggle();
  strictEqual(flagsOf(plain), 0b101_0110_1101);
  plain.ask(Opt.STRUCTURED);
  strictEqual(flagsOf(plain), 0b101_1110_1101);
  strictEqual(flagsOf(haggle({ geometry: { readOnly: true } })), 0b101_0000_1111);
});

Deno.test("GO enters transmission without padding, also without NO_ZEROES", () => {
  for (const name of ["vol1", ""]) {
    const { client, ask } = haggle({}, 1);
    const answers = ask(Opt.GO, infoData(name, 3));
    deepStrictEqual(types(answers), [INFO, INFO, ACK]);
    strictEqual(client.ask(3).error, 0);
  }
});

Deno.test("GO and INFO for an unknown export are refused and the connection goes on", () => {
  const haggler = haggle();
  for (const type of [Opt.GO, Opt.INFO]) {
    const answers = haggler.ask(type, infoData("vol2"));
    deepStrictEqual(types(answers), [ERR_UNKNOWN]);
    match(new TextDecoder().decode(answers[0].data), /vol1/);
  }
  assertAlive(haggler);
});

Deno.test("GO with malformed data is invalid and the connection goes on", () => {
  const haggler = haggle();
  const bad = [
    new Uint8Array(0),
    be32(100),
    concat(be32(4), text("vol1")),
    concat(be32(4), text("vol1"), be16(2, 1)),
    concat(infoData("vol1"), text("x")),
    concat(be32(5000), new Uint8Array(5000), be16(0)),
    be32(0xffffffff, 0xffffffff),
  ];
  for (const data of bad) deepStrictEqual(types(haggler.ask(Opt.GO, data)), [ERR_INVALID]);
  assertAlive(haggler);
});

Deno.test("STARTTLS and unknown options are unsupported, with words", () => {
  const haggler = haggle();
  for (const type of [Opt.STARTTLS, 4, 11, 0, 0xffffffff]) {
    const answers = haggler.ask(type);
    deepStrictEqual(types(answers), [ERR_UNSUP]);
    strictEqual(answers[0].option, type);
    strictEqual(answers[0].data.length > 0, true);
  }
  deepStrictEqual(types(haggler.ask(Opt.STARTTLS, text("x"))), [ERR_INVALID]);
  deepStrictEqual(types(haggler.ask(99, new Uint8Array(3000))), [ERR_UNSUP]);
  assertAlive(haggler);
});

Deno.test("STRUCTURED_REPLY is acknowledged, twice too, and refuses data", () => {
  const haggler = haggle();
  deepStrictEqual(types(haggler.ask(Opt.STRUCTURED, text("x"))), [ERR_INVALID]);
  deepStrictEqual(types(haggler.ask(Opt.STRUCTURED)), [ACK]);
  deepStrictEqual(types(haggler.ask(Opt.STRUCTURED)), [ACK]);
});

Deno.test("metadata contexts need structured replies", () => {
  const haggler = haggle();
  for (const type of [Opt.LIST_META, Opt.SET_META]) {
    deepStrictEqual(types(haggler.ask(type, contextData("vol1"))), [ERR_INVALID]);
  }
  assertAlive(haggler);
});

Deno.test("LIST_META_CONTEXT and SET_META_CONTEXT by the book", () => {
  const haggler = haggle();
  haggler.ask(Opt.STRUCTURED);
  const names = (type: number, name: string, ...queries: string[]): string[] => {
    const answers = haggler.ask(type, contextData(name, ...queries));
    strictEqual(answers.at(-1)!.type, ACK);
    return answers.slice(0, -1).map((answer) => {
      strictEqual(answer.type, META_CONTEXT);
      const reader = new WireReader(answer.data);
      reader.u32();
      return reader.text(reader.left);
    });
  };
  deepStrictEqual(names(Opt.LIST_META, "vol1"), ["base:allocation"]);
  deepStrictEqual(names(Opt.LIST_META, "", "base:"), ["base:allocation"]);
  deepStrictEqual(names(Opt.LIST_META, "vol1", "x-other:", "base:allocation"), ["base:allocation"]);
  deepStrictEqual(names(Opt.LIST_META, "vol1", "qemu:dirty-bitmap"), []);
  deepStrictEqual(names(Opt.SET_META, "vol1"), []);
  deepStrictEqual(names(Opt.SET_META, "vol1", "base:"), []);
  deepStrictEqual(names(Opt.SET_META, "vol1", "qemu:x", "base:allocation", "base:allocation"), ["base:allocation"]);
  for (const type of [Opt.LIST_META, Opt.SET_META]) {
    deepStrictEqual(types(haggler.ask(type, contextData("vol2", "base:allocation"))), [ERR_UNKNOWN]);
    deepStrictEqual(types(haggler.ask(type, be32(0, 1, 40))), [ERR_INVALID]);
    deepStrictEqual(types(haggler.ask(type, be32(0, 0xffffffff))), [ERR_INVALID]);
    deepStrictEqual(types(haggler.ask(type, concat(contextData("vol1"), text("x")))), [ERR_INVALID]);
  }
  assertAlive(haggler);
});

Deno.test("the last SET_META_CONTEXT counts, even when it fails", () => {
  const selected = (...sets: Uint8Array[]): number => {
    const { client, ask } = haggle();
    ask(Opt.STRUCTURED);
    for (const data of sets) ask(Opt.SET_META, data);
    ask(Opt.GO, infoData("vol1"));
    return client.ask(7, { length: 4096 }).error;
  };
  const good = contextData("vol1", "base:allocation");
  strictEqual(selected(good), 0);
  strictEqual(selected(contextData("", "base:allocation")), 0, "the default export is the same export");
  strictEqual(selected(), 22);
  strictEqual(selected(good, contextData("vol1")), 22);
  strictEqual(selected(good, be32(9)), 22);
  strictEqual(selected(good, contextData("vol2", "base:allocation")), 22);
});

Deno.test("ABORT is acknowledged and the connection closed after the answer has left", () => {
  const { harness, client } = haggle();
  harness.sendsComplete = false;
  client.send(option(Opt.ABORT, text("whatever")));
  for (let i = 0; i < 5; i++) harness.turn();
  strictEqual(client.stream.isClosed, false);
  harness.sendsComplete = true;
  harness.settle();
  deepStrictEqual(types(readOptionAnswers(new WireReader(client.takeBytes()))), [ACK]);
  strictEqual(client.stream.isClosed, true);
  strictEqual(harness.server.connectionCount, 0);
});

Deno.test("too long option data is skipped and refused; absurdly long data ends the connection", () => {
  const haggler = haggle();
  for (const type of [Opt.GO, Opt.LIST, 99]) {
    deepStrictEqual(types(haggler.ask(type, new Uint8Array(20000))), [ERR_TOO_BIG]);
  }
  assertAlive(haggler);
  haggler.client.send(text("IHAVEOPT"), be32(Opt.GO, 0x7fffffff));
  haggler.harness.settle();
  strictEqual(haggler.client.stream.isClosed, true);
});

Deno.test("a client that only ever haggles is dropped", () => {
  const { harness, client } = haggle();
  for (let i = 0; i < 1100 && !client.stream.isClosed; i++) {
    client.send(option(Opt.LIST));
    harness.settle();
  }
  strictEqual(client.stream.isClosed, true);
});

Deno.test("a handshake that arrives byte by byte works, and one without room to answer waits", () => {
  const harness = new NbdHarness({ stream: { arrivalBytes: 1, stagingBytes: 64, sendAreaBytes: 1200, copyBytes: 16 } });
  const client = harness.connect();
  client.send(be32(3));
  for (let i = 0; i < 40; i++) client.send(option(Opt.LIST));
  client.send(option(Opt.STRUCTURED), option(Opt.GO, infoData("vol1", 1, 2, 3)));
  harness.sendsComplete = false;
  for (let i = 0; i < 10; i++) harness.turn();
  strictEqual(client.stream.isPaused, true, "options are not read while answers wait");
  harness.sendsComplete = true;
  harness.settle();
  const reader = new WireReader(client.takeBytes());
  reader.bytes(18);
  const answers = readOptionAnswers(reader);
  strictEqual(answers.length, 40 * 2 + 1 + 5);
  strictEqual(answers.at(-1)!.type, ACK);
  client.structured = true;
  strictEqual(client.ask(3).error, 0);
});
