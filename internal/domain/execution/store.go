package execution

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/platform/db"
	"stoa/internal/platform/id"
	"stoa/internal/platform/money"
)

const columns = `org_id, id, created_at, actor_id, package_id, version_id, package, version, digest, runtime, state,
	input, output, metadata, error_code, error_message, error_retryable, usage, max_cost, held, charged, timeout_ms,
	queue_until, started_at, deadline, finished_at, cancel_at, last_seq, lease_epoch`

// row is an execution with its payloads still sealed.
type row struct {
	Execution
	sealed    sealed
	errorCode sql.NullString
	retryable bool
}

// sealed are the payloads as they stand in the row.
type sealed struct{ input, output, metadata, message []byte }

func scanExecution(r db.Row) (row, error) {
	var e row
	var usage db.JSON[Usage]
	var maxCost, held, charged, timeout int64
	err := r.Scan(&e.Organization, &e.ID, &e.CreatedAt, &e.Actor, &e.PackageID, &e.VersionID, &e.Package, &e.Execution.Version,
		&e.Digest, &e.Runtime, &e.State, &e.sealed.input, &e.sealed.output, &e.sealed.metadata, &e.errorCode, &e.sealed.message,
		&e.retryable, &usage, &maxCost, &held, &charged, &timeout, &e.queueUntil, &e.StartedAt, &e.deadline, &e.FinishedAt,
		&e.cancelAt, &e.LastEvent, &e.epoch)
	e.Usage, e.timeout = usage.V, time.Duration(timeout)*time.Millisecond
	e.MaxCost, e.Held, e.Charged = money.FromMicros(maxCost), money.FromMicros(held), money.FromMicros(charged)
	return e, err
}

// at is the creation time that an id tells: it prunes the partitions.
func at(execution id.Execution) db.Time { return db.At(execution.Time()) }

func getExecution(ctx context.Context, q db.Querier, org id.Organization, execution id.Execution) (row, error) {
	return db.One(ctx, q, scanExecution, `
		SELECT `+columns+` FROM executions
		WHERE org_id = $1 AND id = $2 AND created_at = $3`, org, execution, at(execution))
}

// progress is how far an execution has come.
type progress struct {
	id        id.Execution
	state     State
	lastEvent int64
}

func getProgress(ctx context.Context, q db.Querier, org id.Organization, execution id.Execution) (progress, error) {
	return db.One(ctx, q, func(r db.Row) (progress, error) {
		var p progress
		return p, r.Scan(&p.id, &p.state, &p.lastEvent)
	}, `
		SELECT id, state, last_seq FROM executions
		WHERE org_id = $1 AND id = $2 AND created_at = $3`, org, execution, at(execution))
}

func insertExecution(ctx context.Context, tx db.Tx, e *Execution, s sealed, owner id.Worker, until db.Time) error {
	var leaseOwner, leaseUntil any
	if e.State == Running {
		leaseOwner, leaseUntil = owner, until
	}
	_, err := db.Exec(ctx, tx, `
		INSERT INTO executions (org_id, id, created_at, actor_id, package_id, version_id, package, version, digest, runtime, state,
			input, metadata, max_cost, held, charged, timeout_ms, queue_until, started_at, deadline, cancel_at, last_seq,
			lease_owner, lease_until, lease_epoch)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25)`,
		e.Organization, e.ID, e.CreatedAt, e.Actor, e.PackageID, e.VersionID, e.Package, e.Version, e.Digest, string(e.Runtime),
		string(e.State), s.input, s.metadata, e.MaxCost.Micros(), e.Held.Micros(), e.Charged.Micros(), e.timeout.Milliseconds(),
		e.queueUntil, e.StartedAt, e.deadline, e.cancelAt, e.LastEvent, leaseOwner, leaseUntil, e.epoch)
	return err
}

func insertEvent(ctx context.Context, tx db.Tx, e *Execution, event Event, data []byte) error {
	_, err := db.Exec(ctx, tx, `
		INSERT INTO execution_events (org_id, execution_id, seq, execution_at, type, data, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		e.Organization, e.ID, event.Number, e.CreatedAt, event.Type, data, event.CreatedAt)
	return err
}

// kept is an idempotency key as it was first used.
type keptKey struct {
	fingerprint []byte
	execution   id.Execution
	expires     db.Time
}

// matching is the execution of the key, or KeyReused when the request was another.
func (k keptKey) matching(claim *keyClaim) (id.Execution, error) {
	if !bytes.Equal(k.fingerprint, claim.fingerprint) {
		return id.Execution{}, KeyReused
	}
	return k.execution, nil
}

func scanKey(r db.Row) (keptKey, error) {
	var k keptKey
	return k, r.Scan(&k.fingerprint, &k.execution, &k.expires)
}

func findKey(ctx context.Context, q db.Querier, actor access.Actor, key []byte) (keptKey, error) {
	return db.One(ctx, q, scanKey, `
		SELECT fingerprint, resource_id, expires_at FROM idempotency_keys
		WHERE org_id = $1 AND actor_id = $2 AND key_hash = $3`, actor.Organization, actor.User, key)
}

// claimKey takes the key for e, also from an expired use, or returns the use that
// has it. On PostgreSQL it waits for a transaction that is about to take it.
func claimKey(ctx context.Context, tx db.Tx, actor access.Actor, claim *keyClaim, e *Execution) (keptKey, error) {
	kept, err := db.One(ctx, tx, scanKey, `
		INSERT INTO idempotency_keys (org_id, actor_id, key_hash, fingerprint, resource_id, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (org_id, actor_id, key_hash) DO UPDATE
			SET fingerprint = excluded.fingerprint, resource_id = excluded.resource_id,
				created_at = excluded.created_at, expires_at = excluded.expires_at
			WHERE idempotency_keys.expires_at < excluded.created_at
		RETURNING fingerprint, resource_id, expires_at`,
		actor.Organization, actor.User, claim.key, claim.fingerprint, e.ID, e.CreatedAt, e.CreatedAt.Add(keptKeys))
	if errors.Is(err, db.NotFound) {
		return findKey(ctx, tx, actor, claim.key)
	}
	return kept, err
}

func forgetKeys(ctx context.Context, tx db.Tx, now db.Time) error {
	_, err := db.Exec(ctx, tx, `DELETE FROM idempotency_keys WHERE expires_at < $1`, now)
	return err
}

// countQueued counts the organization's waiting executions, up to most.
func countQueued(ctx context.Context, q db.Querier, org id.Organization, most int) (int, error) {
	return db.One(ctx, q, scanInt, `
		SELECT count(*) FROM (SELECT 1 FROM executions WHERE org_id = $1 AND state = 'queued' LIMIT $2) AS waiting`, org, most)
}

// countWaiting counts what is queued, of all organizations: the partial index of
// queued executions answers it.
func countWaiting(ctx context.Context, q db.Querier) (int, error) {
	return db.One(ctx, q, scanInt, `SELECT count(*) FROM executions WHERE state = 'queued'`)
}

func scanInt(r db.Row) (int, error) {
	var n int
	return n, r.Scan(&n)
}

// candidate is an execution that somebody may claim.
type candidate struct {
	org   id.Organization
	id    id.Execution
	epoch int64
}

func scanCandidate(r db.Row) (candidate, error) {
	var c candidate
	return c, r.Scan(&c.org, &c.id, &c.epoch)
}

// queued finds what may start: the oldest of every organization before the second
// of any, in the order of the organizations' ids and beginning behind last, whose
// turn it was. So each has its turn, however many another has queued. It takes no
// locks.
func queued(ctx context.Context, q db.Querier, now db.Time, last id.Organization, limit int) ([]candidate, error) {
	return db.All(ctx, q, scanCandidate, `
		SELECT org_id, id, lease_epoch FROM (
			SELECT org_id, id, lease_epoch, row_number() OVER (PARTITION BY org_id ORDER BY created_at, id) AS turn
			FROM executions WHERE state = 'queued' AND queue_until >= $1
		) AS waiting
		ORDER BY turn, CASE WHEN org_id > $2 THEN 0 ELSE 1 END, org_id LIMIT $3`, now, orNone(last), limit)
}

// orNone is the id as an argument that is never NULL: the zero id sorts first.
func orNone(org id.Organization) id.Organization {
	if org.IsZero() {
		return id.FromBytes[id.Organization]([16]byte{15: 1})
	}
	return org
}

// claimQueued takes the candidate unless somebody else did. The epoch that was
// read with it makes this a compare-and-swap: one winner on both engines, no locks.
func claimQueued(ctx context.Context, tx db.Tx, c candidate, owner id.Worker, now, until db.Time) (row, error) {
	return db.One(ctx, tx, scanExecution, `
		UPDATE executions
		SET state = 'running', lease_owner = $4, lease_until = $5, lease_epoch = lease_epoch + 1, last_seq = last_seq + 1
		WHERE org_id = $1 AND id = $2 AND created_at = $6 AND state = 'queued' AND lease_epoch = $3 AND queue_until >= $7
		RETURNING `+columns, c.org, c.id, c.epoch, owner, until, at(c.id), now)
}

// setStart notes when the work starts and when it is ended at the latest.
func setStart(ctx context.Context, tx db.Tx, e *Execution) error {
	_, err := db.Exec(ctx, tx, `
		UPDATE executions SET started_at = $4, deadline = $5
		WHERE org_id = $1 AND id = $2 AND created_at = $3`, e.Organization, e.ID, e.CreatedAt, e.StartedAt, e.deadline)
	return err
}

// abandoned finds running executions whose lease has ended.
func abandoned(ctx context.Context, q db.Querier, now db.Time, limit int) ([]candidate, error) {
	return db.All(ctx, q, scanCandidate, `
		SELECT org_id, id, lease_epoch FROM executions
		WHERE state = 'running' AND lease_until < $1
		ORDER BY lease_until LIMIT $2`, now, limit)
}

// takeOver raises the epoch of an abandoned execution: from here on its former
// owner writes nothing.
func takeOver(ctx context.Context, tx db.Tx, c candidate, owner id.Worker, now, until db.Time) (row, error) {
	return db.One(ctx, tx, scanExecution, `
		UPDATE executions SET lease_owner = $4, lease_until = $5, lease_epoch = lease_epoch + 1
		WHERE org_id = $1 AND id = $2 AND created_at = $6 AND state = 'running' AND lease_epoch = $3 AND lease_until < $7
		RETURNING `+columns, c.org, c.id, c.epoch, owner, until, at(c.id), now)
}

// hasOutput says that the runtime has written to the log, so that a second start
// could be seen from outside.
func hasOutput(ctx context.Context, q db.Querier, e *Execution) (bool, error) {
	n, err := db.One(ctx, q, scanInt, `
		SELECT count(*) FROM (SELECT 1 FROM execution_events
			WHERE org_id = $1 AND execution_id = $2 AND execution_at = $3 AND type NOT LIKE 'execution.%' LIMIT 1) AS output`,
		e.Organization, e.ID, e.CreatedAt)
	return n > 0, err
}

// overdue finds queued executions whose time to start is over.
func overdue(ctx context.Context, q db.Querier, now db.Time, limit int) ([]candidate, error) {
	return db.All(ctx, q, scanCandidate, `
		SELECT org_id, id, lease_epoch FROM executions
		WHERE state = 'queued' AND queue_until < $1
		ORDER BY queue_until LIMIT $2`, now, limit)
}

// renewLease keeps the lease of one running execution. False means that it is
// lost: somebody took over, it was given up, or it has ended.
func renewLease(ctx context.Context, tx db.Tx, e *Execution, until db.Time) (bool, error) {
	n, err := db.Exec(ctx, tx, `
		UPDATE executions SET lease_until = $5
		WHERE org_id = $1 AND id = $2 AND created_at = $3 AND lease_epoch = $4 AND state = 'running' AND lease_owner IS NOT NULL`,
		e.Organization, e.ID, e.CreatedAt, e.epoch, until)
	return n == 1, err
}

// expireLeases ends every lease: for a server that starts alone on its database.
func expireLeases(ctx context.Context, d *db.DB, now db.Time) error {
	return d.Tx(ctx, func(tx db.Tx) error {
		_, err := db.Exec(ctx, tx, `UPDATE executions SET lease_until = $1 WHERE state = 'running'`, now.Add(-time.Millisecond))
		return err
	})
}

// reserve takes n event numbers for the holder of the epoch and returns the last.
// db.NotFound means that the lease is lost.
func reserve(ctx context.Context, tx db.Tx, e *Execution, n int) (int64, error) {
	return db.One(ctx, tx, scanLast, `
		UPDATE executions SET last_seq = last_seq + $5
		WHERE org_id = $1 AND id = $2 AND created_at = $3 AND lease_epoch = $4 AND state = 'running'
		RETURNING last_seq`, e.Organization, e.ID, e.CreatedAt, e.epoch, n)
}

func scanLast(r db.Row) (int64, error) {
	var n int64
	return n, r.Scan(&n)
}

// end brings an execution from state from to a terminal one, once: db.NotFound
// means that somebody else did, or that the lease is lost. It takes n event
// numbers and returns the last.
func end(ctx context.Context, tx db.Tx, e *Execution, from State, s sealed, n int) (int64, error) {
	var code, retryable any
	retryable = false
	if e.Failure != nil {
		code, retryable = e.Failure.Code, e.Failure.Retryable
	}
	return db.One(ctx, tx, scanLast, `
		UPDATE executions
		SET state = $6, output = $7, error_code = $8, error_message = $9, error_retryable = $10, usage = $11,
			charged = $12, finished_at = $13, last_seq = last_seq + $14, lease_owner = NULL, lease_until = NULL
		WHERE org_id = $1 AND id = $2 AND created_at = $3 AND lease_epoch = $4 AND state = $5
		RETURNING last_seq`,
		e.Organization, e.ID, e.CreatedAt, e.epoch, string(from), string(e.State), s.output, code, s.message, retryable,
		db.JSON[Usage]{V: e.Usage}, e.Charged.Micros(), e.FinishedAt, n)
}

// giveUpLease lets others take over at once. Without an owner, a renewal that is
// on its way does not bring the lease back.
func giveUpLease(ctx context.Context, tx db.Tx, e *Execution, now db.Time) error {
	_, err := db.Exec(ctx, tx, `
		UPDATE executions SET lease_owner = NULL, lease_until = $5
		WHERE org_id = $1 AND id = $2 AND created_at = $3 AND lease_epoch = $4 AND state = 'running'`,
		e.Organization, e.ID, e.CreatedAt, e.epoch, now.Add(-time.Millisecond))
	return err
}

// requestCancel marks a running execution; its owner will see it.
func requestCancel(ctx context.Context, tx db.Tx, org id.Organization, execution id.Execution, now db.Time) error {
	_, err := db.Exec(ctx, tx, `
		UPDATE executions SET cancel_requested_at = $4
		WHERE org_id = $1 AND id = $2 AND created_at = $3 AND state = 'running' AND cancel_requested_at IS NULL`,
		org, execution, at(execution), now)
	return err
}

// toCancel finds the owner's running executions that somebody wants canceled.
func toCancel(ctx context.Context, q db.Querier, owner id.Worker) ([]candidate, error) {
	return db.All(ctx, q, scanCandidate, `
		SELECT org_id, id, lease_epoch FROM executions
		WHERE state = 'running' AND lease_owner = $1 AND cancel_requested_at IS NOT NULL`, owner)
}

func cancelRequested(ctx context.Context, q db.Querier, e *Execution) (bool, error) {
	n, err := db.One(ctx, q, scanInt, `
		SELECT count(*) FROM executions
		WHERE org_id = $1 AND id = $2 AND created_at = $3 AND cancel_requested_at IS NOT NULL`, e.Organization, e.ID, e.CreatedAt)
	return n == 1, err
}

// Filter narrows a list of executions.
type Filter struct {
	State   State  // "" for all
	Package string // publisher/name, or "" for all
	// After is the last execution of the page before; zero for the first page.
	After id.Execution
	Limit int
}

// endOfTime is later than every row.
var endOfTime = db.At(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))

// listExecutions pages newest first. The row-value comparison lets both engines
// seek in the (org_id, created_at, id) index instead of counting past rows.
func listExecutions(ctx context.Context, q db.Querier, org id.Organization, f Filter) ([]row, error) {
	before, last := at(f.After), f.After
	if f.After.IsZero() {
		before, last = endOfTime, id.FromBytes[id.Execution]([16]byte{0: 0xff})
	}
	return db.All(ctx, q, scanExecution, `
		SELECT `+columns+` FROM executions
		WHERE org_id = $1 AND (created_at, id) < ($2, $3) AND ($4 = '' OR state = $4) AND ($5 = '' OR package = $5)
		ORDER BY created_at DESC, id DESC LIMIT $6`, org, before, last, string(f.State), f.Package, f.Limit)
}

type sealedEvent struct {
	Event
	data []byte
}

func scanEvent(r db.Row) (sealedEvent, error) {
	var e sealedEvent
	return e, r.Scan(&e.Number, &e.Type, &e.data, &e.CreatedAt)
}

func listEvents(ctx context.Context, q db.Querier, org id.Organization, execution id.Execution, after int64, limit int) ([]sealedEvent, error) {
	return db.All(ctx, q, scanEvent, `
		SELECT seq, type, data, created_at FROM execution_events
		WHERE org_id = $1 AND execution_id = $2 AND execution_at = $3 AND seq > $4
		ORDER BY seq LIMIT $5`, org, execution, at(execution), after, limit)
}
