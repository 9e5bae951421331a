/*
 * Claims, epochs, the start rule and fencing, as the core has them (lib/core: client_membership.ts, claim_round.ts, start_rule.ts,
 * epoch_changes.ts, admission.ts, leg_session.ts, caretaker.ts), checked by Spin in every order of events within small bounds.
 *
 * One chunk of data, whose value is the number of the last write into it; legs with a durable record, promise, value, intent and dirty mask;
 * clients that greet, claim, establish, reconcile, write, drop legs, take them back, detach and assemble anew. Messages of a connection
 * arrive in order or are lost with it; processes end at any moment and start again; a write that is on a disk's queue happens later, or, when
 * the process ends, perhaps. Not in here, since the simulator has them: volatile caches, several chunks, resync while writing, the leg table.
 *
 * Sizes and kinds of clients are macros, and so are the mistakes that can be planted (PLANT_...), each of which must be found: see spin.ts.
 */

#ifndef LEGS
#define LEGS 2
#endif
#ifndef LEAST
#define LEAST 1                 /* min-in-sync */
#endif
#ifndef WRITES
#define WRITES 2
#endif
#ifndef STARTS
#define STARTS 3                /* lives of clients, all together */
#endif
#ifndef LEG_ENDS
#define LEG_ENDS 1
#endif
#ifndef CLIENT_ENDS
#define CLIENT_ENDS 1
#endif
#ifndef BREAKS
#define BREAKS 1                /* connections that break by themselves */
#endif
#ifndef CARETAKER
#define CARETAKER 9             /* the client that is a caretaker; 9: none */
#endif
#define CLIENTS 2
/* Beyond these nothing is explored. */
#ifndef MAX_EPOCH
#define MAX_EPOCH 6
#endif
#ifndef MAX_GENERATION
#define MAX_GENERATION 4
#endif

#define BIT(l) (1 << (l))
#define PAIR(c, l) ((c) * LEGS + (l))
#define ALL ((1 << LEGS) - 1)
#define HOLDS(c, l) (alive[l] && session[l] == (c) + 1 && !isSessionDead[l])
/* One write at a time touches the chunk. */
#define CAN_TAKE(c, l) (len(toLeg[PAIR(c, l)]) > 0 && (onDisk[l] == 0 || !(toLeg[PAIR(c, l)] ? [WRITE, _, _, _, _])))
#define HAS_ANSWER(c) (len(toClient[PAIR(c, 0)]) > 0 || len(toClient[PAIR(c, 1)]) > 0 || \
  (LEGS > 2 && len(toClient[PAIR(c, LEGS - 1)]) > 0))
#define COUNT(mask) (((mask) & 1) + (((mask) >> 1) & 1) + (((mask) >> 2) & 1))

mtype = { CLAIM, GRANT, HELD, STALE, EPOCH, EPOCH_DONE, WRITE, ACK, DETACH, DETACHED };
mtype = { OFF, GREET, CLAIMING, ESTABLISH, RECONCILE, READY, DETACHING };

/* What is on the disk of a leg. */
byte recordGeneration[LEGS];
byte recordClient[LEGS];        /* clientGeneration */
byte recordEpoch[LEGS];
byte recordSet[LEGS];
byte promised[LEGS];
byte promisedTo[LEGS];
byte value[LEGS];
byte dirty[LEGS];
bool intent[LEGS];
/* What is in its memory. */
bool alive[LEGS];
byte session[LEGS];             /* client + 1 */
byte sessionGeneration[LEGS];
byte sessionLife[LEGS];
bool isSessionDead[LEGS];       /* its connection is gone, which the leg has not noticed yet */
byte claimant[LEGS];            /* client + 1 whose claim waits for the disk */
byte claimGeneration[LEGS]; byte claimLife[LEGS];
byte onDisk[LEGS];              /* write under way on the disk */
byte onDiskFor[LEGS];           /* client + 1 who is to be told */
#ifdef PLANT_NO_DRAIN
byte ghost[LEGS];
#endif
#ifdef PLANT_EPOCH_BEFORE_DURABLE
byte memoryEpoch[LEGS]; byte memorySet[LEGS]; byte memoryGeneration[LEGS]; byte memoryClient[LEGS];
#endif

/* A client. */
mtype phase[CLIENTS] = OFF;
byte life[CLIENTS];             /* stands for its UUID */
byte generation[CLIENTS];
byte ownGeneration[CLIENTS];    /* of the record it made last, once it was ready */
bool wasReady[CLIENTS];
bool takeover[CLIENTS];
byte set[CLIENTS];              /* in-sync set in force */
byte proposedSet[CLIENTS];
byte epoch[CLIENTS];
byte clientGeneration[CLIENTS];
byte unconfirmed[CLIENTS];      /* legs that have not confirmed the record on its way */
bool isProposing[CLIENTS];
byte inFlight[CLIENTS];         /* write; 0: none */
byte waitsFor[CLIENTS];
byte claimed[CLIENTS];          /* legs that have granted */
byte asked[CLIENTS];            /* legs that have not answered the claim */
bool isSuspect[CLIENTS];
byte source[CLIENTS];           /* reconciliation */
byte unequal[CLIENTS];
byte connected[CLIENTS];        /* as the client sees it */
byte up[CLIENTS];               /* as it is */

chan toLeg[CLIENTS * LEGS] = [2] of { mtype, byte, byte, byte, byte };
chan toClient[CLIENTS * LEGS] = [2] of { mtype, byte };

byte starts, legEnds, clientEnds, breaks, writes;
byte acked;                     /* the newest write that was acknowledged */

inline forget(c, l) {           /* nothing of this connection arrives any more */
  up[c] = up[c] & ~BIT(l);
  do :: len(toLeg[PAIR(c, l)]) > 0 -> toLeg[PAIR(c, l)] ? _, _, _, _, _ :: else -> break od;
  do :: len(toClient[PAIR(c, l)]) > 0 -> toClient[PAIR(c, l)] ? _, _ :: else -> break od;
  if :: session[l] == c + 1 -> isSessionDead[l] = true :: else fi;
  if :: claimant[l] == c + 1 -> claimant[l] = 0; claimGeneration[l] = 0; claimLife[l] = 0 :: else fi
}

inline endSession(l) {
  session[l] = 0; isSessionDead[l] = false; onDiskFor[l] = 0; sessionGeneration[l] = 0; sessionLife[l] = 0
}

proctype Leg(byte l) {
  mtype kind; byte a, b, d, e, c, other;
  do
  /* A frame arrives. */
  :: atomic {
       alive[l] && (CAN_TAKE(0, l) || CAN_TAKE(1, l)) ->
       if
       :: CAN_TAKE(0, l) -> c = 0
       :: CAN_TAKE(1, l) -> c = 1
       fi;
       toLeg[PAIR(c, l)] ? kind, a, b, d, e;
       if
       :: kind == CLAIM ->
          /* a: generation, b: life, d: takeover, e: caretaker */
          if
          :: claimant[l] != 0 -> toClient[PAIR(c, l)] ! STALE, 0
#ifndef PLANT_PROMISE_FORGOTTEN
          :: claimant[l] == 0 && (a < promised[l] || (a == promised[l] && promisedTo[l] != b)) ->
             toClient[PAIR(c, l)] ! STALE, promised[l]
#endif
          :: else ->
             if
             :: session[l] != 0 && sessionLife[l] != b && (!d || e) && !(session[l] - 1 == CARETAKER && !e) ->
                toClient[PAIR(c, l)] ! HELD, 0
             :: else ->
                if
                :: session[l] != 0 && session[l] != c + 1 ->
                   other = session[l] - 1;
#ifndef PLANT_NO_FENCE
                   forget(other, l);
                   endSession(l)
#endif
                :: else -> endSession(l)
                fi;
                claimant[l] = c + 1; claimGeneration[l] = a; claimLife[l] = b
             fi
          fi
       :: kind == EPOCH ->
          /* a: generation, b: epoch, d: set, e: legs that become dirty | caretaker's client generation is kept apart */
          if
          :: !HOLDS(c, l) || a != sessionGeneration[l] -> toClient[PAIR(c, l)] ! STALE, promised[l]
          :: else ->
#ifdef PLANT_EPOCH_BEFORE_DURABLE
             memoryGeneration[l] = a; memoryEpoch[l] = b; memorySet[l] = d; memoryClient[l] = clientGeneration[c];
#else
             recordGeneration[l] = a; recordEpoch[l] = b; recordSet[l] = d; recordClient[l] = clientGeneration[c];
#endif
#ifndef PLANT_DROP_LEAVES_CLEAN
             dirty[l] = (dirty[l] | e) & ~d;
#else
             dirty[l] = dirty[l] & ~d;
#endif
             toClient[PAIR(c, l)] ! EPOCH_DONE, b
          fi
       :: kind == WRITE ->
          /* a: number, b: legs that it skips */
          if
#ifdef PLANT_NO_FENCE
          :: true ->
#else
          :: !HOLDS(c, l) -> skip
          :: else ->
#endif
#ifndef PLANT_NO_INTENT
             intent[l] = true;
#endif
             dirty[l] = dirty[l] | b;
             onDisk[l] = a; onDiskFor[l] = c + 1
          fi
       :: kind == DETACH ->
          if
          :: HOLDS(c, l) -> intent[l] = false; endSession(l); toClient[PAIR(c, l)] ! DETACHED, 0
          :: else -> skip
          fi
       fi;
       kind = 0; a = 0; b = 0; d = 0; e = 0; c = 0; other = 0
     }
  /* Nothing of the session before can still happen: the claim stands. */
#ifdef PLANT_NO_DRAIN
  :: atomic { alive[l] && ghost[l] != 0 -> value[l] = ghost[l]; ghost[l] = 0 }
  :: atomic { alive[l] && claimant[l] != 0 ->
       if :: onDisk[l] != 0 -> ghost[l] = onDisk[l]; onDisk[l] = 0 :: else fi;
#else
  :: atomic { alive[l] && claimant[l] != 0 && onDisk[l] == 0 ->
#endif
       session[l] = claimant[l]; isSessionDead[l] = false; sessionGeneration[l] = claimGeneration[l];
       promised[l] = claimGeneration[l]; promisedTo[l] = claimLife[l]; sessionLife[l] = claimLife[l];
       claimant[l] = 0; claimGeneration[l] = 0; claimLife[l] = 0;
       toClient[PAIR(session[l] - 1, l)] ! GRANT, 0
     }
  :: atomic { alive[l] && onDisk[l] != 0 ->
       value[l] = onDisk[l];
       if :: onDiskFor[l] != 0 -> toClient[PAIR(onDiskFor[l] - 1, l)] ! ACK, onDisk[l] :: else fi;
       onDisk[l] = 0; onDiskFor[l] = 0
     }
  :: atomic { alive[l] && isSessionDead[l] -> endSession(l) }
#ifdef PLANT_EPOCH_BEFORE_DURABLE
  :: atomic { alive[l] && memoryEpoch[l] != 0 ->
       recordGeneration[l] = memoryGeneration[l]; recordEpoch[l] = memoryEpoch[l]; recordSet[l] = memorySet[l];
       recordClient[l] = memoryClient[l]; memoryEpoch[l] = 0; memorySet[l] = 0; memoryGeneration[l] = 0; memoryClient[l] = 0
     }
#endif
  /* The process ends: what is on its way to the disk may land. */
  :: atomic { alive[l] && legEnds < LEG_ENDS ->
       legEnds++;
       alive[l] = false;
       if :: onDisk[l] != 0 -> value[l] = onDisk[l] :: true fi;
       onDisk[l] = 0;
       forget(0, l); forget(1, l);
       endSession(l); claimant[l] = 0; claimGeneration[l] = 0; claimLife[l] = 0;
#ifdef PLANT_EPOCH_BEFORE_DURABLE
       memoryEpoch[l] = 0; memorySet[l] = 0; memoryGeneration[l] = 0; memoryClient[l] = 0;
#endif
     }
  :: atomic { !alive[l] ->
       alive[l] = true;
       /* Pages may not have been saved: what it was writing counts against every leg that was out of sync. */
       if :: intent[l] -> dirty[l] = dirty[l] | (ALL & ~recordSet[l] & ~BIT(l)) :: else fi
     }
  od
}

/* The newest record among the legs of `mask`, and whether the pool may start from them. */
inline decide(mask) {
  best = 9; i = 0;
  do
  :: i < LEGS ->
     if
     :: (mask & BIT(i)) && (best == 9 || recordGeneration[i] > recordGeneration[best] ||
          (recordGeneration[i] == recordGeneration[best] && recordEpoch[i] > recordEpoch[best])) -> best = i
     :: else
     fi;
     i++
  :: else -> break
  od;
  i = 0;
  mayStart = false;
  if
  :: best == 9
  :: best != 9 ->
     members = recordSet[best] & (mask);
#ifdef PLANT_ANY_MEMBER_STARTS
     mayStart = members != 0
#else
     mayStart = COUNT(members) >= LEAST && COUNT(recordSet[best] & ~members) < LEAST
#endif
  fi
}

/* Everything is let go of; a write under way is held and sent again later. */
inline restart(c) {
  i = 0;
  do :: i < LEGS -> forget(c, i); i++ :: else -> break od;
  i = 0;
  connected[c] = 0; claimed[c] = 0; asked[c] = 0; set[c] = 0; proposedSet[c] = 0; unconfirmed[c] = 0; isProposing[c] = false;
  waitsFor[c] = 0; unequal[c] = 0; isSuspect[c] = false; source[c] = 0; epoch[c] = 0; clientGeneration[c] = 0;
  phase[c] = GREET
}

/* The attach is over. */
inline leave(c) {
  restart(c);
  phase[c] = OFF; generation[c] = 0; ownGeneration[c] = 0; wasReady[c] = false; takeover[c] = false; inFlight[c] = 0; life[c] = 0
}

inline propose(c, newSet, becomesDirty) {
  epoch[c] = epoch[c] + 1;
  proposedSet[c] = newSet; isProposing[c] = true; unconfirmed[c] = newSet;
  ownGeneration[c] = generation[c];
  i = 0;
  do
  :: i < LEGS ->
     if
     :: (newSet & BIT(i)) && (up[c] & BIT(i)) ->
        toLeg[PAIR(c, i)] ! EPOCH, generation[c], epoch[c], newSet, becomesDirty
     :: else
     fi;
     i++
  :: else -> break
  od;
  i = 0
}

inline sendWrite(c) {
  waitsFor[c] = set[c];
  i = 0;
  do
  :: i < LEGS ->
     if
     :: (set[c] & BIT(i)) && (up[c] & BIT(i)) -> toLeg[PAIR(c, i)] ! WRITE, inFlight[c], ALL & ~set[c], 0, 0
     :: else
     fi;
     i++
  :: else -> break
  od;
  i = 0
}

inline maybeComplete(c) {
  if
  :: inFlight[c] != 0 && waitsFor[c] == 0 ->
     if :: inFlight[c] > acked -> acked = inFlight[c] :: else fi;
     inFlight[c] = 0
  :: else
  fi
}

/* A superseded client writes nothing over what came after it. */
#ifdef PLANT_NEVER_SUPERSEDED
#define SUPERSEDED(c, l) false
#else
#define SUPERSEDED(c, l) (wasReady[c] && recordClient[l] > ownGeneration[c])
#endif

proctype Client(byte c) {
  mtype kind; byte a, i, l, best, members, lacking, highest, greeted; bool mayStart;
  do
  :: atomic { phase[c] == OFF && starts < STARTS ->
       starts++; life[c] = starts; phase[c] = GREET;
       /* The first life of a client asks, later ones and the other client take the pool over. */
       takeover[c] = (c != CARETAKER && starts > 1)
     }
  /* Some of the legs that are up greet, and nobody else is waited for any longer: all of them are claimed. */
  :: atomic { phase[c] == GREET ->
       i = 0;
       do
       :: i < LEGS ->
          if
          :: alive[i] -> greeted = greeted | BIT(i)
          :: alive[i] && breaks < BREAKS -> breaks++           /* it cannot be reached */
          :: !alive[i]
          fi;
          i++
       :: else -> break
       od;
       decide(greeted);
       highest = generation[c]; i = 0;
       do
       :: i < LEGS ->
          if :: (greeted & BIT(i)) && promised[i] > highest -> highest = promised[i] :: else fi;
          i++
       :: else -> break
       od;
       i = 0;
       if
       :: greeted != 0 && SUPERSEDED(c, best) -> leave(c)
       :: mayStart && highest < MAX_GENERATION && !SUPERSEDED(c, best) ->
          generation[c] = highest + 1;
          asked[c] = greeted; connected[c] = greeted; up[c] = greeted; phase[c] = CLAIMING;
          do
          :: i < LEGS ->
             if
             :: (greeted & BIT(i)) -> toLeg[PAIR(c, i)] ! CLAIM, generation[c], life[c], takeover[c], c == CARETAKER
             :: else
             fi;
             i++
          :: else -> break
          od
       :: else
       fi;
       i = 0; best = 0; members = 0; mayStart = false; highest = 0; greeted = 0
     }
  /* All have answered or are gone: the record that the new generation begins with. */
  :: atomic { phase[c] == CLAIMING && asked[c] == 0 && generation[c] <= MAX_GENERATION ->
       decide(claimed[c]);
       if
       :: best != 9 && SUPERSEDED(c, best) -> leave(c)
       :: mayStart && recordEpoch[best] < MAX_EPOCH && !SUPERSEDED(c, best) ->
          isSuspect[c] = false; i = 0;
          do
          :: i < LEGS -> if :: (members & BIT(i)) && intent[i] -> isSuspect[c] = true :: else fi; i++
          :: else -> break
          od;
          set[c] = members; epoch[c] = recordEpoch[best]; phase[c] = ESTABLISH;
          clientGeneration[c] = (c == CARETAKER -> recordClient[best] : generation[c]);
          /* Legs outside: dropped now, or suspected of all that the members suspect. */
          lacking = 0;
          if :: isSuspect[c] || (recordSet[best] & ~members) != 0 -> lacking = ALL & ~members :: else fi;
          propose(c, members, lacking)
       :: else -> restart(c)
       fi;
       i = 0; best = 0; members = 0; lacking = 0; mayStart = false
     }
  /* The record is in force. */
  :: atomic { isProposing[c] && unconfirmed[c] == 0 ->
       isProposing[c] = false;
       if
       :: phase[c] == ESTABLISH ->
          phase[c] = RECONCILE;
          if
          :: isSuspect[c] && COUNT(set[c]) > 1 ->
             if
             :: (set[c] & 1) -> source[c] = 0
             :: (set[c] & 2) -> source[c] = 1
#if LEGS > 2
             :: (set[c] & 4) -> source[c] = 2
#endif
             fi;
#ifndef PLANT_NO_RECONCILE
             unequal[c] = set[c] & ~BIT(source[c])
#endif
          :: else
          fi
       :: phase[c] == READY || phase[c] == DETACHING ->
          set[c] = proposedSet[c];
          waitsFor[c] = waitsFor[c] & set[c];
          maybeComplete(c)
       fi
     }
  /* One member is made equal to another, having noted that it may differ. */
  :: atomic { phase[c] == RECONCILE && unequal[c] != 0 ->
       if
       :: (unequal[c] & 1) -> l = 0
       :: (unequal[c] & 2) -> l = 1
#if LEGS > 2
       :: (unequal[c] & 4) -> l = 2
#endif
       fi;
       if
       :: HOLDS(c, l) && HOLDS(c, source[c]) && onDisk[l] == 0 && onDisk[source[c]] == 0 ->
#ifndef PLANT_NO_OWN_SUSPICION
          intent[l] = true;
#endif
          value[l] = value[source[c]];
          unequal[c] = unequal[c] & ~BIT(l)
       :: else
       fi;
       l = 0
     }
  :: atomic { phase[c] == RECONCILE && unequal[c] == 0 ->
       phase[c] = READY; wasReady[c] = true; takeover[c] = false; isSuspect[c] = false; source[c] = 0;
       i = 0;
       do
       :: i < LEGS ->
          if
          :: (set[c] & BIT(i)) && HOLDS(c, i) -> assert(value[i] >= acked)    /* no start without what was acknowledged */
          :: else
          fi;
          i++
       :: else -> break
       od;
       i = 0;
       /* What waits is sent again. */
       if :: inFlight[c] != 0 -> sendWrite(c) :: else fi
     }
  :: atomic { phase[c] == READY && c != CARETAKER && inFlight[c] == 0 && writes < WRITES && !isProposing[c] ->
       writes++; inFlight[c] = writes; sendWrite(c)
     }
  /* An answer. */
  :: atomic {
       HAS_ANSWER(c) ->
       if
       :: len(toClient[PAIR(c, 0)]) > 0 -> l = 0
       :: len(toClient[PAIR(c, 1)]) > 0 -> l = 1
#if LEGS > 2
       :: len(toClient[PAIR(c, 2)]) > 0 -> l = 2
#endif
       fi;
       toClient[PAIR(c, l)] ? kind, a;
       if
       :: kind == GRANT ->
          if
          :: phase[c] == CLAIMING -> asked[c] = asked[c] & ~BIT(l); claimed[c] = claimed[c] | BIT(l)
          :: phase[c] == READY -> asked[c] = asked[c] & ~BIT(l); claimed[c] = claimed[c] | BIT(l)
          :: else
          fi
       :: kind == HELD ->
          if :: phase[c] == CLAIMING -> leave(c) :: else -> forget(c, l); fi
       :: kind == STALE ->
          if
          :: phase[c] != OFF ->
             if :: a > generation[c] -> generation[c] = a :: else fi;
             restart(c)
          :: else
          fi
       :: kind == EPOCH_DONE ->
          if :: isProposing[c] && a == epoch[c] -> unconfirmed[c] = unconfirmed[c] & ~BIT(l) :: else fi
       :: kind == ACK ->
          if
          :: inFlight[c] == a && phase[c] == READY -> waitsFor[c] = waitsFor[c] & ~BIT(l); maybeComplete(c)
          :: else
          fi
       :: kind == DETACHED ->
          unequal[c] = unequal[c] & ~BIT(l);
          if :: unequal[c] == 0 -> leave(c) :: else fi
       fi;
       kind = 0; a = 0; l = 0; i = 0
     }
  /* It notices that a connection is gone. */
  :: atomic { (connected[c] & ~up[c]) != 0 ->
       if
       :: (connected[c] & ~up[c] & 1) -> l = 0
       :: (connected[c] & ~up[c] & 2) -> l = 1
#if LEGS > 2
       :: (connected[c] & ~up[c] & 4) -> l = 2
#endif
       fi;
       connected[c] = connected[c] & ~BIT(l);
       claimed[c] = claimed[c] & ~BIT(l);
       asked[c] = asked[c] & ~BIT(l);
       if
       :: (phase[c] == ESTABLISH || phase[c] == RECONCILE) && (set[c] & BIT(l)) -> restart(c)
       :: phase[c] == DETACHING -> leave(c)
       :: phase[c] == READY && ((set[c] | proposedSet[c]) & BIT(l)) ->
          members = (isProposing[c] -> proposedSet[c] : set[c]) & connected[c];
          if
          :: c == CARETAKER && (set[c] & BIT(l)) -> leave(c)
          :: !(c == CARETAKER && (set[c] & BIT(l))) && (members & set[c]) != 0 && COUNT(members) >= LEAST &&
             epoch[c] < MAX_EPOCH ->
#ifdef PLANT_ACK_BEFORE_EPOCH
             waitsFor[c] = waitsFor[c] & ~BIT(l); maybeComplete(c);
#endif
             lacking = ALL & ~members;
             propose(c, members, lacking)
          :: else -> restart(c)
          fi
       :: else
       fi;
       l = 0; i = 0; members = 0; lacking = 0
     }
  /* A leg that is back greets, and is claimed for the generation in force. */
  :: atomic { phase[c] == READY && !isProposing[c] && connected[c] != ALL ->
       if
       :: alive[0] && !(connected[c] & 1) -> l = 0
       :: alive[1] && !(connected[c] & 2) -> l = 1
#if LEGS > 2
       :: alive[2] && !(connected[c] & 4) -> l = 2
#endif
       :: else -> l = LEGS
       fi;
       if
       :: l == LEGS
       :: l < LEGS && (promised[l] > generation[c] || (promised[l] == generation[c] && promisedTo[l] != life[c])) ->
          generation[c] = promised[l]; restart(c)
       :: else ->
          asked[c] = asked[c] | BIT(l); connected[c] = connected[c] | BIT(l); up[c] = up[c] | BIT(l);
          toLeg[PAIR(c, l)] ! CLAIM, generation[c], life[c], (c != CARETAKER), (c == CARETAKER)
       fi;
       l = 0; i = 0
     }
  /* A claimed leg that is out of the set gets what the members' maps say that it lacks, and joins. No write is under way meanwhile. */
  :: atomic { phase[c] == READY && !isProposing[c] && inFlight[c] == 0 && (claimed[c] & ~set[c] & up[c]) != 0 &&
       epoch[c] < MAX_EPOCH ->
       if
       :: (claimed[c] & ~set[c] & up[c] & 1) -> l = 0
       :: (claimed[c] & ~set[c] & up[c] & 2) -> l = 1
#if LEGS > 2
       :: (claimed[c] & ~set[c] & up[c] & 4) -> l = 2
#endif
       fi;
       if
       :: (set[c] & 1) -> i = 0
       :: (set[c] & 2) -> i = 1
#if LEGS > 2
       :: (set[c] & 4) -> i = 2
#endif
       fi;
       if
       :: HOLDS(c, l) && HOLDS(c, i) && onDisk[l] == 0 && onDisk[i] == 0 ->
          if
#ifdef PLANT_JOIN_WITHOUT_RESYNC
          :: true
#else
          /* What it wrote last itself counts against it as well. */
          :: (dirty[i] & BIT(l)) || intent[l] -> value[l] = value[i]
          :: else
#endif
          fi;
          members = set[c] | BIT(l); lacking = 0;
          propose(c, members, lacking);
          members = 0
       :: else
       fi;
       l = 0; i = 0
     }
  :: atomic { phase[c] == READY && !isProposing[c] && inFlight[c] == 0 && set[c] == (set[c] & up[c]) &&
       (c != CARETAKER || (connected[c] & ~set[c]) == 0) ->
       phase[c] = DETACHING; unequal[c] = set[c]; i = 0;
       do
       :: i < LEGS -> if :: (set[c] & BIT(i)) -> toLeg[PAIR(c, i)] ! DETACH, 0, 0, 0, 0 :: else fi; i++
       :: else -> break
       od;
       i = 0
     }
  :: atomic { phase[c] != OFF && clientEnds < CLIENT_ENDS -> clientEnds++; leave(c) }
  :: atomic { breaks < BREAKS && up[c] != 0 ->
       breaks++;
       if
       :: (up[c] & 1) -> l = 0
       :: (up[c] & 2) -> l = 1
#if LEGS > 2
       :: (up[c] & 4) -> l = 2
#endif
       fi;
       forget(c, l); l = 0
     }
  od
}

#define WRITES_NOW(c) (phase[c] == READY && set[c] != 0 && \
  (!(set[c] & 1) || HOLDS(c, 0)) && (!(set[c] & 2) || HOLDS(c, 1)) && (LEGS < 3 || !(set[c] & 4) || HOLDS(c, LEGS - 1)))
/* While nothing is under way, members hold the same, and all that was acknowledged. */
#define IS_QUIET(c) (WRITES_NOW(c) && !isProposing[c] && inFlight[c] == 0)
#define MEMBER_LACKS(c, l) ((set[c] & BIT(l)) && onDisk[l] == 0 && value[l] < acked)
#define MEMBERS_DIFFER(c, l) ((set[c] & BIT(0)) && (set[c] & BIT(l)) && onDisk[0] == 0 && onDisk[l] == 0 && value[0] != value[l])

proctype Watch() {
  /* Never two that could have a write acknowledged. */
  end:
  do
  :: atomic { WRITES_NOW(0) && WRITES_NOW(1) -> assert(false) }
  :: atomic { (IS_QUIET(0) && (MEMBER_LACKS(0, 0) || MEMBER_LACKS(0, 1) || MEMBERS_DIFFER(0, 1))) -> assert(false) }
  :: atomic { (IS_QUIET(1) && (MEMBER_LACKS(1, 0) || MEMBER_LACKS(1, 1) || MEMBERS_DIFFER(1, 1))) -> assert(false) }
#if LEGS > 2
  :: atomic { (IS_QUIET(0) && (MEMBER_LACKS(0, 2) || MEMBERS_DIFFER(0, 2))) -> assert(false) }
  :: atomic { (IS_QUIET(1) && (MEMBER_LACKS(1, 2) || MEMBERS_DIFFER(1, 2))) -> assert(false) }
#endif
  od
}

init {
  atomic {
    byte k;
    for (k : 0 .. LEGS - 1) {
      alive[k] = true; recordGeneration[k] = 1; recordClient[k] = 1; recordEpoch[k] = 1; recordSet[k] = ALL; promised[k] = 1;
      run Leg(k)
    }
    run Client(0); run Client(1); run Watch()
  }
}
