package client_test

import (
	"testing"

	"stoa/internal/apptest"
)

func TestMain(m *testing.M) { apptest.Main(m) }
