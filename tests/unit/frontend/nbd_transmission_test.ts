import { deepStrictEqual, match, strictEqual } from "node:assert/strict";
import { RequestFlag, RequestKind } from "../../../lib/frontend/frontend.ts";
import { Cmd, Flag, NbdHarness, pattern } from "./nbd_harness.ts";
import { request } from "./nbd_wire.ts";

const EPERM = 1;
const EIO = 5;
const EINVAL = 22;
const ENOSPC = 28;
const EOVERFLOW = 75;
const ENOTSUP = 95;
const MIB = 1 << 20;

for (const structured of [false, true]) {
  const replies = structured ? "structured replies" : "simple replies";

  Deno.test(`what is written is read, ${replies}`, () => {
    const harness = new NbdHarness();
    const client = harness.open({ structured });
    for (const [offset, length] of [[0, 512], [512, 4096], [8192, 131072], [3 * MIB, MIB], [5 * MIB, 3 * MIB + 512]]) {
      const data = pattern(length, length);
      strictEqual(client.ask(Cmd.WRITE, { offset, payload: data }).error, 0);
      deepStrictEqual(client.readData(offset, length), data);
    }
    harness.assertIdle();
  });

  Deno.test(`errors by the book, and the connection goes on, ${replies}`, () => {
    const harness = new NbdHarness({ geometry: { sizeBytes: 40 * MIB, logicalBlockBytes: 512 } });
    const client = harness.open({ structured });
    const end = 40 * MIB;
    const cases: [string, number, Parameters<typeof client.ask>[1], number][] = [
      ["read past the end", Cmd.READ, { offset: end - 512, length: 1024 }, EINVAL],
      ["read at the end", Cmd.READ, { offset: end, length: 512 }, EINVAL],
      ["read far past the end", Cmd.READ, { offset: 2 ** 60, length: 512 }, EINVAL],
      ["write past the end", Cmd.WRITE, { offset: end - 512, payload: pattern(1024, 1) }, ENOSPC],
      ["write far past the end", Cmd.WRITE, { offset: 2 ** 63, payload: pattern(70000, 1) }, ENOSPC],
      ["zeroes past the end", Cmd.WRITE_ZEROES, { offset: end, length: 512 }, ENOSPC],
      ["trim past the end", Cmd.TRIM, { offset: end, length: 512 }, EINVAL],
      ["cache past the end", Cmd.CACHE, { offset: end, length: 512 }, EINVAL],
      ["unaligned read offset", Cmd.READ, { offset: 100, length: 512 }, EINVAL],
      ["unaligned read length", Cmd.READ, { offset: 512, length: 100 }, EINVAL],
      ["unaligned write", Cmd.WRITE, { offset: 1, payload: pattern(512, 1) }, EINVAL],
      ["unaligned write length", Cmd.WRITE, { offset: 0, payload: pattern(5, 1) }, EINVAL],
      ["unaligned trim", Cmd.TRIM, { offset: 0, length: 513 }, EINVAL],
      ["empty read", Cmd.READ, {}, EINVAL],
      ["empty write", Cmd.WRITE, {}, EINVAL],
      ["empty trim", Cmd.TRIM, {}, EINVAL],
      ["empty zeroes", Cmd.WRITE_ZEROES, {}, EINVAL],
      ["empty cache", Cmd.CACHE, {}, EINVAL],
      ["flush with a range", Cmd.FLUSH, { offset: 0, length: 512 }, EINVAL],
      ["flush with an offset", Cmd.FLUSH, { offset: 512 }, EINVAL],
      ["unknown command", 8, {}, EINVAL],
      ["unknown command of 16 bits", 65535, { length: 512 }, EINVAL],
      ["unknown flag", Cmd.READ, { flags: 1 << 15, length: 512 }, EINVAL],
      ["NO_HOLE on a read", Cmd.READ, { flags: Flag.NO_HOLE, length: 512 }, EINVAL],
      ["DF on a write", Cmd.WRITE, { flags: Flag.DF, payload: pattern(512, 1) }, EINVAL],
      ["REQ_ONE on trim", Cmd.TRIM, { flags: Flag.REQ_ONE, length: 512 }, EINVAL],
      ["FAST_ZERO", Cmd.WRITE_ZEROES, { flags: Flag.FAST_ZERO, length: 512 }, ENOTSUP],
      ["a read above the maximum", Cmd.READ, { length: 32 * MIB + 512 }, EOVERFLOW],
      ["a write above the maximum", Cmd.WRITE, { payload: new Uint8Array(32 * MIB + 512) }, EINVAL],
      ["block status without a context", Cmd.BLOCK_STATUS, { length: 512 }, EINVAL],
    ];
    for (const [name, command, options, error] of cases) {
      const answer = client.ask(command, options);
      strictEqual(answer.error, error, name);
      strictEqual(answer.kind, structured ? "error" : "simple", name);
      if (structured) match(answer.message, /^[A-Z].{10,}/, name);
    }
    strictEqual(harness.host.log.length, 0, "the host was asked for none of it");
    deepStrictEqual(client.readData(0, 4096), new Uint8Array(4096));
    harness.assertIdle();
  });

  Deno.test(`errors of the host reach the client as NBD errors, ${replies}`, () => {
    const harness = new NbdHarness();
    const client = harness.open({ structured });
    const statuses = [[-5, EIO], [-110, EIO], [-28, ENOSPC], [-122, ENOSPC], [-30, EPERM], [-95, ENOTSUP], [-108, 108]];
    for (const [status, error] of [...statuses, [-12, 12], [-22, EINVAL], [-1, EPERM]]) {
      harness.host.failure = () => status;
      strictEqual(client.ask(Cmd.READ, { length: 4096 }).error, error);
      strictEqual(client.ask(Cmd.WRITE, { payload: pattern(4096, 1) }).error, error);
      strictEqual(client.ask(Cmd.FLUSH).error, error);
      strictEqual(client.ask(Cmd.TRIM, { length: 4096 }).error, error);
      strictEqual(client.ask(Cmd.WRITE_ZEROES, { length: 4096 }).error, error);
    }
    harness.host.failure = () => 0;
    deepStrictEqual(client.readData(0, 4096), new Uint8Array(4096));
    harness.assertIdle();
  });

  Deno.test(`several connections share one pool, ${replies}`, () => {
    const harness = new NbdHarness();
    const clients = [1, 2, 3, 4].map(() => harness.open({ structured }));
    clients.forEach((client, i) => client.request(Cmd.WRITE, { offset: i * MIB, payload: pattern(MIB, i) }));
    harness.settle();
    for (const client of clients) strictEqual(client.answers()[0].error, 0);
    clients.forEach((client, i) => {
      const other = (i + 1) % clients.length;
      deepStrictEqual(client.readData(other * MIB, MIB), pattern(MIB, other));
    });
    harness.assertIdle();
  });
}

Deno.test("requests reach the host with kind, flags, offset and length", () => {
  const harness = new NbdHarness();
  const client = harness.open();
  client.ask(Cmd.READ, { offset: 4096, length: 512, flags: Flag.FUA });
  client.ask(Cmd.WRITE, { offset: 512, payload: pattern(1024, 1) });
  client.ask(Cmd.WRITE, { payload: pattern(512, 1), flags: Flag.FUA });
  client.ask(Cmd.FLUSH);
  client.ask(Cmd.FLUSH, { flags: Flag.FUA });
  client.ask(Cmd.TRIM, { offset: 4096, length: 8192, flags: Flag.FUA });
  client.ask(Cmd.WRITE_ZEROES, { offset: 0, length: 4096, flags: Flag.FUA | Flag.NO_HOLE });
  client.ask(Cmd.WRITE_ZEROES, { offset: 0, length: 4096 });
  client.ask(Cmd.CACHE, { offset: 0, length: 4096 });
  const seen = harness.host.log.map(({ kind, flags, offset, lengthBytes }) => [kind, flags, offset, lengthBytes]);
  const { READ, WRITE, WRITE_ZEROES, DISCARD, FLUSH } = RequestKind;
  deepStrictEqual(seen, [
    [READ, 0, 4096, 512],
    [WRITE, 0, 512, 1024],
    [WRITE, RequestFlag.FUA, 0, 512],
    [FLUSH, 0, 0, 0],
    [FLUSH, 0, 0, 0],
    [DISCARD, RequestFlag.FUA, 4096, 8192],
    [WRITE_ZEROES, RequestFlag.FUA | RequestFlag.NO_HOLE, 0, 4096],
    [WRITE_ZEROES, 0, 0, 4096],
  ]);
});

Deno.test("a read-only pool refuses what writes, draining the payload, and serves the rest", () => {
  const harness = new NbdHarness({ geometry: { readOnly: true } });
  const client = harness.open();
  strictEqual(client.ask(Cmd.WRITE, { payload: pattern(300000, 1) }).error, EPERM);
  strictEqual(client.ask(Cmd.TRIM, { length: 4096 }).error, EPERM);
  strictEqual(client.ask(Cmd.WRITE_ZEROES, { length: 4096 }).error, EPERM);
  strictEqual(client.ask(Cmd.FLUSH).error, 0);
  deepStrictEqual(client.readData(0, 4096), new Uint8Array(4096));
});

Deno.test("4096 byte blocks: 512 byte requests are refused", () => {
  const client = new NbdHarness({ geometry: { logicalBlockBytes: 4096 } }).open();
  strictEqual(client.ask(Cmd.READ, { offset: 512, length: 4096 }).error, EINVAL);
  strictEqual(client.ask(Cmd.WRITE, { payload: pattern(512, 1) }).error, EINVAL);
  strictEqual(client.ask(Cmd.READ, { offset: 4096, length: 8192 }).error, 0);
});

Deno.test("DF gives one chunk up to 1 MiB and EOVERFLOW above; without structured replies it is an unknown flag", () => {
  const harness = new NbdHarness();
  const client = harness.open();
  strictEqual(client.ask(Cmd.READ, { length: MIB, flags: Flag.DF }).data.length, MIB);
  strictEqual(client.ask(Cmd.READ, { length: MIB + 512, flags: Flag.DF }).error, EOVERFLOW);
  strictEqual(harness.open({ structured: false }).ask(Cmd.READ, { length: 512, flags: Flag.DF }).error, EINVAL);
});

Deno.test("offsets beyond 32 bits are exact, in requests and in chunks", () => {
  const harness = new NbdHarness({ geometry: { sizeBytes: 2 ** 53 - 2 ** 20 } });
  const client = harness.open();
  const last = 2 ** 53 - 2 ** 20 - 512;
  for (const offset of [2 ** 32, 2 ** 32 + 512, 5 * 2 ** 40 + 4096, last]) {
    strictEqual(client.ask(Cmd.READ, { offset, length: 512 }).offset, offset);
    strictEqual(harness.host.log.at(-1)!.offset, offset);
  }
  strictEqual(client.ask(Cmd.READ, { offset: last, length: 1024 }).error, EINVAL);
  strictEqual(client.ask(Cmd.READ, { offset: 2 ** 53, length: 512 }).error, EINVAL);
});

Deno.test("block status: one extent of allocated data, as long as asked", () => {
  const client = new NbdHarness().open({ context: true });
  for (const flags of [0, Flag.REQ_ONE]) {
    const answer = client.ask(Cmd.BLOCK_STATUS, { offset: 4096, length: 3 * MIB, flags });
    strictEqual(answer.kind, "status");
    const view = new DataView(answer.data.buffer);
    deepStrictEqual([answer.data.length, view.getUint32(4), view.getUint32(8)], [12, 3 * MIB, 0]);
    strictEqual(view.getUint32(0) !== 0, true);
  }
  strictEqual(client.ask(Cmd.BLOCK_STATUS, { offset: 0, length: 65 * MIB }).error, EINVAL);
  strictEqual(client.ask(Cmd.BLOCK_STATUS, { offset: 0, length: 0 }).error, EINVAL);
  strictEqual(client.ask(Cmd.BLOCK_STATUS, { offset: 0, length: 512, flags: Flag.DF }).error, EINVAL);
});

Deno.test("a large write is split, the parts complete as one, FUA on each", () => {
  const harness = new NbdHarness();
  const client = harness.open();
  harness.hostCompletes = false;
  const data = pattern(4 * MIB + 4096, 7);
  client.request(Cmd.WRITE, { offset: 8192, payload: data, flags: Flag.FUA });
  harness.settle();
  deepStrictEqual(harness.host.log.map(({ offset, lengthBytes }) => [offset, lengthBytes]), [
    [8192, MIB],
    [8192 + MIB, MIB],
    [8192 + 2 * MIB, MIB],
    [8192 + 3 * MIB, MIB],
    [8192 + 4 * MIB, 4096],
  ]);
  strictEqual(harness.host.log.every(({ flags }) => flags === RequestFlag.FUA), true);
  for (let left = 5; left > 0; left--) {
    strictEqual(client.answers().length, 0, "no answer before the last part");
    harness.host.complete(left - 1);
    harness.settle();
  }
  strictEqual(client.answers()[0].error, 0);
  harness.hostCompletes = true;
  deepStrictEqual(client.readData(8192, data.length), data);
  harness.assertIdle();
});

Deno.test("the first error of the parts wins, and only the last part brings the answer", () => {
  const harness = new NbdHarness();
  const client = harness.open();
  harness.hostCompletes = false;
  client.request(Cmd.WRITE, { payload: pattern(3 * MIB, 1) });
  harness.settle();
  harness.host.failure = ({ offset }) => offset === MIB ? -28 : offset === 0 ? -5 : 0;
  harness.host.complete(1);
  harness.host.complete(0);
  harness.settle();
  strictEqual(client.answers().length, 0);
  harness.host.complete(0);
  harness.settle();
  strictEqual(client.answers()[0].error, ENOSPC);
  harness.assertIdle();
});

Deno.test("zeroes and trim are split at what the host takes at once, up to the whole range of the length", () => {
  const gib = 2 ** 30;
  const harness = new NbdHarness({ geometry: { sizeBytes: 2 ** 40, logicalBlockBytes: 4096, maxRangeBytes: gib } });
  const client = harness.open();
  for (const command of [Cmd.TRIM, Cmd.WRITE_ZEROES]) {
    harness.host.log.length = 0;
    strictEqual(client.ask(command, { offset: 3 * gib, length: 2 ** 32 - 4096, flags: Flag.FUA }).error, 0);
    deepStrictEqual(harness.host.log.map(({ flags, offset, lengthBytes }) => [flags, offset, lengthBytes]), [
      [RequestFlag.FUA, 3 * gib, gib],
      [RequestFlag.FUA, 4 * gib, gib],
      [RequestFlag.FUA, 5 * gib, gib],
      [RequestFlag.FUA, 6 * gib, gib - 4096],
    ]);
  }
  harness.assertIdle();
});

Deno.test("reads and writes are split at what the pool takes at once; a read that must come whole is refused beyond that", () => {
  const harness = new NbdHarness({ geometry: { maxPayloadBytes: MIB / 2 } });
  const client = harness.open();
  const data = pattern(MIB + 4096, 3);
  strictEqual(client.ask(Cmd.WRITE, { offset: 4096, payload: data }).error, 0);
  deepStrictEqual(
    harness.open({ structured: false }).ask(Cmd.READ, { offset: 4096, length: data.length }).data,
    data,
  );
  deepStrictEqual(harness.host.log.map(({ kind, offset, lengthBytes }) => [kind, offset, lengthBytes]), [
    [RequestKind.WRITE, 4096, MIB / 2],
    [RequestKind.WRITE, 4096 + MIB / 2, MIB / 2],
    [RequestKind.WRITE, 4096 + MIB, 4096],
    [RequestKind.READ, 4096, MIB / 2],
    [RequestKind.READ, 4096 + MIB / 2, MIB / 2],
    [RequestKind.READ, 4096 + MIB, 4096],
  ]);
  strictEqual(client.ask(Cmd.READ, { length: MIB / 2 + 512, flags: Flag.DF }).error, EOVERFLOW);
  strictEqual(client.ask(Cmd.READ, { length: MIB / 2, flags: Flag.DF }).error, 0);
  harness.assertIdle();
});

Deno.test("a large structured read may come in any order; failed parts are error chunks with their offset", () => {
  const harness = new NbdHarness();
  const client = harness.open();
  const data = pattern(4 * MIB, 3);
  harness.host.disk.set(data);
  harness.hostCompletes = false;
  const cookie = client.request(Cmd.READ, { length: 4 * MIB });
  harness.settle();
  harness.host.failure = ({ offset }) => offset === 2 * MIB ? -5 : 0;
  for (const index of [3, 2, 0, 0]) {
    harness.host.complete(index);
    harness.settle();
  }
  const answers = client.answers();
  deepStrictEqual(answers.map(({ kind, offset, done, error }) => [kind, offset, done, error]), [
    ["data", 3 * MIB, false, 0],
    ["error", 2 * MIB, false, EIO],
    ["data", 0, false, 0],
    ["data", MIB, true, 0],
  ]);
  for (const answer of answers) {
    strictEqual(answer.cookie, cookie);
    if (answer.kind === "data") deepStrictEqual(answer.data, data.slice(answer.offset, answer.offset + MIB));
  }
  harness.assertIdle();
});

Deno.test("a large simple read is one reply, in order, and clean when a part fails", () => {
  const harness = new NbdHarness();
  const client = harness.open({ structured: false });
  const data = pattern(4 * MIB, 3);
  harness.host.disk.set(data);
  harness.hostCompletes = false;
  for (const fails of [false, true]) {
    client.request(Cmd.READ, { length: 4 * MIB });
    harness.settle();
    harness.host.failure = ({ offset }) => fails && offset === MIB ? -5 : 0;
    for (const index of [3, 1, 1]) {
      harness.host.complete(index);
      harness.settle();
      strictEqual(client.takeBytes().length, 0);
    }
    harness.host.complete(0);
    harness.settle();
    const [answer, ...more] = client.answers();
    strictEqual(more.length, 0);
    strictEqual(answer.error, fails ? EIO : 0);
    if (!fails) deepStrictEqual(answer.data, data);
  }
  harness.assertIdle();
});

Deno.test("answers come as they complete, each with its cookie", () => {
  const harness = new NbdHarness();
  const client = harness.open();
  harness.hostCompletes = false;
  const cookies = [0, 1, 2, 3].map((i) => client.request(Cmd.READ, { offset: i * 4096, length: 4096 }));
  harness.settle();
  for (const index of [2, 0, 1, 0]) harness.host.complete(index);
  harness.settle();
  deepStrictEqual(client.answers().map(({ cookie }) => cookie), [cookies[2], cookies[0], cookies[3], cookies[1]]);
});

Deno.test("the answers of one turn leave in one send", () => {
  const harness = new NbdHarness();
  const client = harness.open();
  const before = client.stream.sendCount;
  for (let i = 0; i < 20; i++) client.request(Cmd.WRITE, { offset: i * 4096, payload: pattern(4096, i) });
  harness.turn();
  strictEqual(client.answers().length, 20);
  strictEqual(client.stream.sendCount - before, 1);
});

Deno.test("a wrong request magic ends the connection, with requests in flight too", () => {
  const harness = new NbdHarness();
  const client = harness.open();
  harness.hostCompletes = false;
  client.request(Cmd.WRITE, { payload: pattern(4096, 1) });
  client.send(request({ command: Cmd.READ, length: 512, magic: 0x12560953 }));
  for (let i = 0; i < 3; i++) harness.turn();
  strictEqual(client.stream.isClosed, true);
  strictEqual(harness.server.connectionCount, 0);
  strictEqual(harness.host.pending.length, 1);
  harness.host.completeAll();
  harness.assertIdle();
});

Deno.test("a write that announces an absurd length ends the connection", () => {
  const harness = new NbdHarness();
  const client = harness.open();
  client.send(request({ command: Cmd.WRITE, length: 0xfffffe00 }));
  harness.settle();
  strictEqual(client.stream.isClosed, true);
  harness.assertIdle();
});

Deno.test("DISC: requests before it are answered, then the connection closes; what follows is ignored", () => {
  const harness = new NbdHarness();
  const client = harness.open();
  harness.hostCompletes = false;
  client.request(Cmd.WRITE, { payload: pattern(4096, 1) });
  client.request(Cmd.READ, { length: 8192 });
  client.request(Cmd.DISC);
  client.request(Cmd.WRITE, { payload: pattern(4096, 2) });
  for (let i = 0; i < 3; i++) harness.turn();
  strictEqual(client.stream.isClosed, false);
  harness.hostCompletes = true;
  harness.settle();
  strictEqual(client.stream.isClosed, true);
  deepStrictEqual(client.answers().map(({ error }) => error), [0, 0]);
  strictEqual(harness.host.log.length, 2);
  harness.assertIdle();
});
