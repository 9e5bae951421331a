/** Which paths to a leg there are, in which order they are tried, and when an attempt is given up. */

import assert from "node:assert/strict";
import { ClientPool } from "../../../lib/core/client_pool.ts";
import { pathsOf } from "../../../lib/core/leg_addresses.ts";
import { type Output, OutputKind } from "../../../lib/core/output.ts";
import { Message, MessageType } from "../../../lib/wire/message.ts";
import { clientOptions, welcomeBody } from "./client_fixture.ts";

const TABLE = "10.0.0.1:1";
const BOTH = { tcp: true, rdma: true };
const TOLD = [TABLE, "10.0.1.1:1", "rdma://10.0.0.1:1"];

Deno.test("RDMA comes first where both ends have it, and each named way is a path of its own", () => {
  assert.deepEqual(pathsOf(TABLE, TOLD, BOTH), ["rdma://10.0.0.1:1", "tcp://10.0.0.1:1", "tcp://10.0.1.1:1"]);
});

Deno.test("an end without RDMA, or told to do without, takes the TCP addresses; one told to use nothing else, RDMA's", () => {
  assert.deepEqual(pathsOf(TABLE, TOLD, { tcp: true, rdma: false }), [TABLE, "10.0.1.1:1"]);
  assert.deepEqual(pathsOf(TABLE, TOLD, { tcp: false, rdma: true }), ["rdma://10.0.0.1:1"]);
});

Deno.test("where the leg table leads is always a path, the only one to a node that tells of none", () => {
  assert.deepEqual(pathsOf(TABLE, ["10.0.1.1:1"], BOTH), ["10.0.1.1:1", TABLE]);
  assert.deepEqual(pathsOf(TABLE, [], BOTH), [TABLE]);
});

function poolOf(told: readonly string[]): ClientPool {
  const pool = new ClientPool(clientOptions({
    legs: [{ legIndex: 0, address: TABLE, told }],
    connectLimitMs: 1000,
    assembleTimeoutMs: 60_000,
  }));
  pool.start({ takeover: false });
  return pool;
}

/** What it wants of connections: addresses, and attempts given up. */
function wanted(pool: ClientPool): string[] {
  const all: string[] = [];
  for (let output: Output | null = pool.poll(); output !== null; output = pool.poll()) {
    if (output.kind === OutputKind.CONNECT) all.push(`${output.address} #${output.token}`);
    else if (output.kind === OutputKind.GIVE_UP) all.push(`not #${output.token}`);
    else if (output.kind === OutputKind.CLOSE) all.push(`close ${output.connection}`);
  }
  return all;
}

function welcome(pool: ClientPool, connection: number, addresses?: string[]): void {
  pool.handleMessage(connection, new Message().reset(MessageType.WELCOME), -1, welcomeBody({ addresses }));
}

Deno.test("every path is tried once, at once; then there is a pause, and the best comes first again", () => {
  const pool = poolOf([TABLE, "10.0.1.1:1"]);
  assert.deepEqual(wanted(pool), [`${TABLE} #1`]);
  pool.handleConnectFailed(0, 1);
  assert.deepEqual(wanted(pool), ["10.0.1.1:1 #2"]);
  pool.handleConnectFailed(0, 2);
  assert.deepEqual(wanted(pool), []);
  pool.handleTick(1000);
  assert.deepEqual(wanted(pool), [`${TABLE} #3`]);
});

Deno.test("an attempt that nobody refuses is given up; what becomes of it later is nobody's", () => {
  const pool = poolOf([TABLE, "10.0.1.1:1"]);
  wanted(pool);
  pool.handleTick(1000);
  assert.deepEqual(wanted(pool), ["not #1", "10.0.1.1:1 #3"]);
  pool.handleConnectFailed(0, 1);
  pool.handleConnected(0, 7, 1);
  assert.deepEqual(wanted(pool), ["close 7"]);
  pool.handleConnected(0, 8, 3);
  assert.equal(pool.snapshot().legs[0].path, "10.0.1.1:1");
});

Deno.test("after a loss the path after the lost one is tried first, also one that the leg told of only then", () => {
  const pool = poolOf([]);
  wanted(pool);
  pool.handleConnected(0, 7, 1);
  welcome(pool, 7, [TABLE, "10.0.1.1:1"]);
  assert.deepEqual(pool.snapshot().legs[0].paths, [TABLE, "10.0.1.1:1"]);
  pool.handleConnectionClosed(7);
  wanted(pool);
  pool.handleTick(500);
  assert.deepEqual(wanted(pool), ["10.0.1.1:1 #2"]);
});
