package fault_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"stoa/internal/platform/fault"
)

var teapot = fault.Define("test_teapot", fault.Conflict, "It is a teapot.", fault.Retryable())

func TestFaultsAreComparedByCode(t *testing.T) {
	err := fmt.Errorf("brewing: %w", teapot.With("spout", 1).At("/lid", "expected to be closed").Because(io.EOF).After(time.Second))
	if !errors.Is(err, teapot) || !errors.Is(err, io.EOF) || errors.Is(err, fault.Define("test_kettle", fault.NotFound, "x")) {
		t.Errorf("comparison of %v", err)
	}
	f := fault.Of(err)
	if f == nil || f.Fields["spout"] != 1 || f.RetryAfter != time.Second || !f.Retryable || len(f.Places) != 1 || f.Places[0].Pointer != "/lid" {
		t.Errorf("fault = %+v", f)
	}
	if text := f.Error(); !strings.Contains(text, "test_teapot") || !strings.Contains(text, "EOF") || strings.Contains(teapot.Error(), "EOF") {
		t.Errorf("texts %q and %q", text, teapot.Error())
	}
	if len(teapot.Places) != 0 || len(teapot.Fields) != 0 || teapot.RetryAfter != 0 {
		t.Errorf("the definition was changed: %+v", teapot)
	}
	if fault.Of(io.EOF) != nil || fault.Of(nil) != nil {
		t.Error("an ordinary error is a fault")
	}
}

func TestCatalogueIsOrderedAndUnique(t *testing.T) {
	var codes []string
	for _, f := range fault.All() {
		codes = append(codes, f.Code)
	}
	if !slices.IsSorted(codes) || !slices.Contains(codes, "test_teapot") {
		t.Errorf("catalogue = %v", codes)
	}
	defer func() {
		if recover() == nil {
			t.Error("a code was defined twice")
		}
	}()
	fault.Define("test_teapot", fault.Gone, "Again.")
}
