package db

import (
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// Admin opens plain connections to a PostgreSQL server for work outside any
// schema, such as creating a database.
func Admin(url string) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("db: the PostgreSQL URL cannot be parsed")
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol // so that one text may hold several statements
	return stdlib.OpenDB(*cfg), nil
}
