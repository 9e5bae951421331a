import assert from "node:assert/strict";
import { turnUntil } from "./turn_until.ts";
import { Errno } from "../../../ffi/libc/errno.ts";
import { closeDescriptor, openFile, OpenFlag, statusOf } from "../../../ffi/libc/file.ts";
import { getLimit, Limit, setLimit } from "../../../ffi/libc/process.ts";
import { bindSocket, Family, getSocketOption, listenOn, newSocket, SocketOption } from "../../../ffi/libc/socket.ts";
import { ConnectAttempt } from "../../../lib/io/connect_attempt.ts";
import { ListenFailed, ListenSocket } from "../../../lib/io/listen_socket.ts";
import { parseSocketAddress } from "../../../lib/io/socket_address.ts";
import { UringReactor } from "../../../lib/io/uring_reactor.ts";

function withReactor(body: (reactor: UringReactor, directory: string) => void): void {
  const reactor = UringReactor.create({ entries: 16, completionEntries: 256 });
  const directory = Deno.makeTempDirSync({ prefix: "brmr-listen-" });
  try {
    body(reactor, directory);
    turnUntil(reactor, () => reactor.inFlightCount === 0, "nothing in flight");
  } finally {
    reactor.dispose();
    Deno.removeSync(directory, { recursive: true });
  }
}

class Acceptor {
  readonly sockets: number[] = [];
  readonly peers: string[] = [];
  onAccepted(socket: number, peerAddress: string): void {
    this.sockets.push(socket);
    this.peers.push(peerAddress);
  }
}

class Outcome {
  socket = -1;
  result = 0;
  onConnected(socket: number): void {
    this.socket = socket;
  }
  onConnectFailed(result: number): void {
    this.result = result;
  }
}

function listenFailure(address: string): ListenFailed {
  try {
    ListenSocket.open(address).close();
  } catch (error) {
    assert.ok(error instanceof ListenFailed, String(error));
    return error;
  }
  assert.fail(`listening on ${address} should have failed`);
}

for (const where of ["127.0.0.1:0", "[::1]:0", "unix"]) {
  Deno.test(`connections are accepted on ${where}, one after the other`, () => {
    withReactor((reactor, directory) => {
      const listener = ListenSocket.open(where === "unix" ? `${directory}/s` : where);
      const acceptor = new Acceptor();
      listener.start(reactor, acceptor);
      for (let i = 0; i < 3; i++) {
        const outcome = new Outcome();
        new ConnectAttempt(reactor, listener.boundAddress, outcome);
        assert.equal(outcome.socket, -1, "the outcome comes in a turn");
        turnUntil(reactor, () => outcome.socket >= 0 && acceptor.sockets.length === i + 1, "a connection");
        const accepted = acceptor.sockets[i];
        if (where !== "unix") {
          assert.ok(getSocketOption(outcome.socket, SocketOption.NO_DELAY) > 0);
          assert.ok(getSocketOption(accepted, SocketOption.NO_DELAY) > 0);
          assert.notEqual(listener.boundAddress, where);
          assert.match(acceptor.peers[i], /^(127\.0\.0\.1|\[::1\]):\d+$/);
        } else {
          assert.equal(acceptor.peers[i], "unix:");
        }
        closeDescriptor(outcome.socket);
        closeDescriptor(accepted);
      }
      listener.close();
      turnUntil(reactor, () => reactor.inFlightCount === 0, "the listener is closed");
      assert.equal(statusOf(listener.descriptor), -Errno.EBADF);
      const refused = new Outcome();
      new ConnectAttempt(reactor, listener.boundAddress, refused);
      turnUntil(reactor, () => refused.result !== 0, "a refusal");
      assert.equal(refused.result, where === "unix" ? -Errno.ENOENT : -Errno.ECONNREFUSED);
    });
  });
}

Deno.test("what cannot be listened on is refused with the address and what to do", () => {
  const taken = ListenSocket.open("127.0.0.1:0");
  const busy = listenFailure(taken.boundAddress);
  assert.equal(busy.result, -Errno.EADDRINUSE);
  assert.ok(busy.message.includes(taken.boundAddress) && /choose another port/.test(busy.message), busy.message);
  taken.close();
  assert.match(listenFailure("192.0.2.1:7701").message, /192\.0\.2\.1:7701: EADDRNOTAVAIL.*no interface/);
  assert.match(listenFailure("/nonexistent-brmr/s").message, /\/nonexistent-brmr\/s: ENOENT.*does not exist/);
});

Deno.test("a unix socket left behind is taken over, one in use or a plain file is not", () => {
  withReactor((_reactor, directory) => {
    const path = `${directory}/s`;
    // Left behind: bound, then closed without unlink.
    const dead = newSocket(Family.UNIX);
    assert.equal(bindSocket(dead, parseSocketAddress(path).bytes), 0);
    closeDescriptor(dead);
    const listener = ListenSocket.open(path);
    assert.equal(listener.boundAddress, path);
    assert.match(listenFailure(path).message, /another process listens there/);
    listener.close();
    assert.throws(() => Deno.lstatSync(path), Deno.errors.NotFound);
    Deno.writeTextFileSync(path, "precious");
    assert.match(listenFailure(path).message, /EADDRINUSE/);
    assert.equal(Deno.readTextFileSync(path), "precious");
  });
});

Deno.test("when descriptors run out accepting rests, and goes on when there are some again", () => {
  withReactor((reactor) => {
    const listener = ListenSocket.open("127.0.0.1:0");
    const acceptor = new Acceptor();
    listener.start(reactor, acceptor);
    const outcome = new Outcome();
    new ConnectAttempt(reactor, listener.boundAddress, outcome);
    const before = getLimit(Limit.OPEN_FILES);
    assert.ok(typeof before !== "number");
    const probe = openFile("/dev/null", OpenFlag.READ_ONLY);
    closeDescriptor(probe);
    assert.equal(setLimit(Limit.OPEN_FILES, probe, before.hard), 0);
    try {
      turnUntil(reactor, () => outcome.socket >= 0 && listener.failedCount >= 2, "two accepts that failed");
      assert.equal(acceptor.sockets.length, 0);
      // It rests in between: far fewer attempts than a spinning loop would make.
      const untilMs = reactor.clockMs() + 250;
      const failedBefore = listener.failedCount;
      while (reactor.clockMs() < untilMs) reactor.turn(untilMs);
      assert.ok(listener.failedCount - failedBefore <= 4, `${listener.failedCount - failedBefore}`);
    } finally {
      assert.equal(setLimit(Limit.OPEN_FILES, before.soft, before.hard), 0);
    }
    turnUntil(reactor, () => acceptor.sockets.length === 1, "the waiting connection");
    listener.close();
    [outcome.socket, acceptor.sockets[0]].forEach(closeDescriptor);
  });
});

Deno.test("a listener that rests can be closed", () => {
  withReactor((reactor) => {
    const listener = ListenSocket.open("127.0.0.1:0");
    const outcome = new Outcome();
    listener.start(reactor, new Acceptor());
    new ConnectAttempt(reactor, listener.boundAddress, outcome);
    const before = getLimit(Limit.OPEN_FILES);
    assert.ok(typeof before !== "number");
    const probe = openFile("/dev/null", OpenFlag.READ_ONLY);
    closeDescriptor(probe);
    assert.equal(setLimit(Limit.OPEN_FILES, probe, before.hard), 0);
    try {
      turnUntil(reactor, () => listener.failedCount >= 1, "an accept that failed");
    } finally {
      assert.equal(setLimit(Limit.OPEN_FILES, before.soft, before.hard), 0);
    }
    listener.close();
    listener.close();
    turnUntil(reactor, () => reactor.inFlightCount === 0, "closed");
    closeDescriptor(outcome.socket);
  });
});

Deno.test("an attempt that is cancelled ends with -ECANCELED", () => {
  withReactor((reactor) => {
    // A listener that never accepts and has the smallest backlog: some connection is never answered.
    const address = ListenSocket.open("127.0.0.1:0");
    const listener = newSocket(Family.INET);
    const target = address.boundAddress;
    address.close();
    assert.equal(bindSocket(listener, parseSocketAddress(target).bytes), 0);
    assert.equal(listenOn(listener, 0), 0);
    const outcomes = Array.from({ length: 4 }, () => new Outcome());
    const attempts = outcomes.map((outcome) => new ConnectAttempt(reactor, target, outcome));
    turnUntil(reactor, () => outcomes.some((one) => one.socket >= 0), "the connection that fits the backlog");
    assert.ok(outcomes.some((one) => one.socket < 0 && one.result === 0), "one still waits");
    attempts.forEach((attempt) => attempt.cancel());
    attempts.forEach((attempt) => attempt.cancel());
    turnUntil(reactor, () => outcomes.every((one) => one.socket >= 0 || one.result !== 0), "every outcome");
    const failed = outcomes.filter((one) => one.socket < 0);
    assert.ok(failed.length > 0);
    assert.deepEqual(failed.map((one) => one.result), failed.map(() => -Errno.ECANCELED));
    outcomes.filter((one) => one.socket >= 0).forEach((one) => closeDescriptor(one.socket));
    closeDescriptor(listener);
  });
});

Deno.test("an attempt without a descriptor to be had fails with the reason", () => {
  withReactor((reactor) => {
    const before = getLimit(Limit.OPEN_FILES);
    assert.ok(typeof before !== "number");
    const probe = openFile("/dev/null", OpenFlag.READ_ONLY);
    closeDescriptor(probe);
    assert.equal(setLimit(Limit.OPEN_FILES, probe, before.hard), 0);
    const outcome = new Outcome();
    try {
      new ConnectAttempt(reactor, "127.0.0.1:1", outcome);
    } finally {
      assert.equal(setLimit(Limit.OPEN_FILES, before.soft, before.hard), 0);
    }
    turnUntil(reactor, () => outcome.result !== 0, "the failure");
    assert.equal(outcome.result, -Errno.EMFILE);
  });
});
