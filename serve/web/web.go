// Package web is what a browser sees of a server: the chat, the training runs and the planner. The pages are embedded,
// hand-written, load nothing from elsewhere and speak to the server's own API.
package web

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
)

//go:embed assets
var assets embed.FS

// Route is an endpoint. Guarded ones show something of the machine and want an API key where keys are asked for; the
// others are the same everywhere.
type Route struct {
	Pattern string
	Guarded bool
	Handler http.HandlerFunc
}

// Routes are the endpoints of the pages. runs is the folder whose training runs are shown, "" for none.
func Routes(runs string) ([]Route, error) {
	var routes []Route
	for pattern, file := range map[string]string{"GET /{$}": "index.html", "GET /runs": "runs.html", "GET /plan": "plan.html"} {
		r, err := page(pattern, file)
		if err != nil {
			return nil, err
		}
		routes = append(routes, r)
	}
	entries, err := assets.ReadDir("assets")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		r, err := page("GET /assets/"+e.Name(), e.Name())
		if err != nil {
			return nil, err
		}
		routes = append(routes, r)
	}
	followed, err := follow(runs)
	if err != nil {
		return nil, err
	}
	return append(append(routes, followed...), planner()...), nil
}

// policy lets a page load what this server has, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; frame-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// harden sets the headers of everything that a browser shows.
func harden(h http.Header, policy string) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// page serves an embedded file. Browsers ask each time whether it is still the same.
func page(pattern, file string) (Route, error) {
	data, err := fs.ReadFile(assets, "assets/"+file)
	if err != nil {
		return Route{}, err
	}
	sum := sha256.Sum256(data)
	tag := fmt.Sprintf(`"%x"`, sum[:8])
	kind := mime.TypeByExtension(path.Ext(file))
	if path.Ext(file) == ".js" { // some systems' tables say text/plain, which browsers refuse for modules
		kind = "text/javascript; charset=utf-8"
	}
	return Route{Pattern: pattern, Handler: func(w http.ResponseWriter, q *http.Request) {
		h := w.Header()
		harden(h, policy)
		h.Set("Content-Type", kind)
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", tag)
		if q.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Write(data)
	}}, nil
}

// hash is the source expression that lets an inline script or style through a policy.
func hash(text []byte) string {
	sum := sha256.Sum256(text)
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}
