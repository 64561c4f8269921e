// Package browsertest drives the pages in a real Chromium. It is a module of its own, so that nothing of it comes into
// danlu's dependencies.
package browsertest
