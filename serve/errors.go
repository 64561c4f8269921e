package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// apiError is an answer of OpenAI's error shape.
type apiError struct {
	status  int
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"` // the field at fault
	Code    *string `json:"code"`
}

// Error implements error.
func (e *apiError) Error() string { return e.Message }

// Types of errors in OpenAI's API.
const (
	invalidRequest = "invalid_request_error"
	authentication = "authentication_error"
	rateLimit      = "rate_limit_error"
	serverError    = "server_error"
)

// fault is an error of a kind that names no field.
func fault(status int, kind, code, format string, args ...any) *apiError {
	e := &apiError{status: status, Message: fmt.Sprintf(format, args...), Type: kind}
	if code != "" {
		e.Code = &code
	}
	return e
}

// badField says what is wrong with a field of the request.
func badField(name, format string, args ...any) *apiError {
	e := fault(http.StatusBadRequest, invalidRequest, "", "%s: %s", name, fmt.Sprintf(format, args...))
	e.Param = &name
	return e
}

// cannot refuses a known field whose wish this server does not fulfil.
func cannot(name, format string, args ...any) *apiError {
	e := badField(name, format, args...)
	code := "unsupported_parameter"
	e.Code = &code
	return e
}

func (e *apiError) body() []byte {
	b, err := json.Marshal(map[string]*apiError{"error": e})
	if err != nil { // strings alone
		panic(err)
	}
	return b
}

func (e *apiError) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	if e.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(e.status)
	w.Write(append(e.body(), '\n'))
}
