package secret

import (
	"context"

	"stoa/internal/platform/db"
)

func insertKey(ctx context.Context, tx db.Tx, subject Subject, wrapped []byte, at db.Time) error {
	_, err := db.Exec(ctx, tx, `
		INSERT INTO data_keys (org_id, subject_id, wrapped, created_at)
		VALUES ($1, $2, $3, $4)`, subject.organization, subject.row(), wrapped, at)
	return err
}

func selectKey(ctx context.Context, q db.Querier, subject Subject) ([]byte, error) {
	return db.One(ctx, q, func(row db.Row) (wrapped []byte, err error) {
		err = row.Scan(&wrapped)
		return wrapped, err
	}, `SELECT wrapped FROM data_keys WHERE org_id = $1 AND subject_id = $2`,
		subject.organization, subject.row())
}
