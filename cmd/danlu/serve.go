package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"danlu/chat"
	"danlu/dtype"
	"danlu/engine"
	"danlu/family"
	"danlu/generate"
	"danlu/hub"
	"danlu/internal/locale"
	"danlu/sandbox"
	"danlu/serve"
	"danlu/weights"
)

func init() { verbs = append(verbs, newServe) }

// serveFlags are the flags of danlu serve.
type serveFlags struct {
	models, names        []string
	template, host       string
	port, context, chunk int
	sequences, cache     int
	options              serve.Options
	draft                drafting
	how                  inference
}

func newServe(o *options) *cobra.Command {
	s := &serveFlags{}
	cmd := &cobra.Command{
		Use:   "serve MODEL...",
		Short: locale.Text("Answer requests over HTTP in the shape of OpenAI's API", "以 OpenAI 接口提供 HTTP 服务"),
		Long: locale.Text(`Answers /v1/chat/completions, /v1/completions, /v1/models and /health, and shows pages at / (chat), /runs and /plan. All replies in work are extended together.
--adapter NAME=DIR offers a LoRA adapter beside the model: requests whose model is NAME are answered with it.
Ctrl-C takes no more requests and lets running replies end; a second one ends at once.
API keys may also come from the environment: DANLU_API_KEY.`,
			`提供 /v1/chat/completions、/v1/completions、/v1/models 和 /health，以及网页 /（对话）、/runs（训练）和 /plan（规划）。所有进行中的回答在同一批次里一起推进。
--adapter 名字=目录 在模型之外提供一个 LoRA 适配器：model 为该名字的请求由它回答。
Ctrl-C 停止接收新请求并等待进行中的回答结束；再按一次立即退出。
API 密钥也可由环境变量 DANLU_API_KEY 给出。`),
		Example: "  danlu serve model.gguf\n  danlu serve qwen-folder --port 9000 --api-key secret\n  danlu serve a.gguf b.gguf --served-model-name small --served-model-name large",
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.run(cmd, o, append(s.models, args...))
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&s.models, "model", "m", nil, locale.Text("model, instead of the argument", "模型（代替参数）"))
	f.StringArrayVar(&s.names, "served-model-name", nil, locale.Text("name in the API, one for each model in turn; default: the file's or folder's", "接口中的模型名，按模型顺序给出；默认取文件名或目录名"))
	f.StringVar(&s.template, "template", "", locale.Text("prompt format instead of the models' own templates", "使用的对话格式（代替模型自带模板）"))
	f.StringVar(&s.host, "host", "127.0.0.1", locale.Text("address to listen on", "监听地址"))
	f.IntVarP(&s.port, "port", "p", 8000, locale.Text("port to listen on; 0: any free one", "监听端口；0 表示任选空闲端口"))
	f.IntVarP(&s.context, "context", "c", 8192, locale.Text("tokens of a prompt and its reply, at most the model's context", "提示与回答合计的 token 数，不超过模型上下文"))
	f.IntVar(&s.sequences, "parallel", 32, locale.Text("replies that are written at a time", "同时生成的回答数"))
	f.IntVar(&s.cache, "cache-tokens", 0, locale.Text("tokens whose keys and values are held, of all replies together; default: twice the context", "键值缓存可容纳的 token 总数；默认为上下文的两倍"))
	f.IntVar(&s.chunk, "chunk", 512, locale.Text("most tokens of one pass", "每次前向的最多 token 数"))
	f.StringArrayVar(&s.options.Keys, "api-key", nil, locale.Text("key that requests have to carry (may be repeated)", "请求须携带的密钥（可重复）"))
	f.Int64Var(&s.options.MaxBody, "max-body", 8<<20, locale.Text("most bytes of a request", "请求体最大字节数"))
	f.IntVar(&s.options.Queue, "queue", 128, locale.Text("replies that may wait; further requests get status 429", "可排队的回答数；超出返回 429"))
	f.DurationVar(&s.options.Timeout, "timeout", 10*time.Minute, locale.Text("most time of a request", "单个请求的最长时间"))
	f.BoolVar(&s.options.CodeInterpreter, "code-interpreter", false, locale.Text("let requests have their replies run Python, isolated from this machine (Linux)", "允许请求让回答运行 Python，与本机隔离（Linux）"))
	f.StringVar(&s.options.Runs, "runs", "", locale.Text("folder whose training runs the page /runs follows", "/runs 页面所跟踪的训练目录"))
	s.draft.flags(f)
	s.how.flags(f)
	f.StringVar(&o.engine, "engine", "cpu", engineUsage())
	return cmd
}

// check refuses flags that are out of range.
func (s *serveFlags) check(models []string) error {
	switch {
	case len(models) == 0:
		return errors.New("MODEL: is missing; give a folder, a GGUF file or a downloaded ORG/NAME")
	case len(s.names) > len(models):
		return fmt.Errorf("--served-model-name: want at most one for each of %d models, got %d", len(models), len(s.names))
	case s.port < 0 || s.port > 65535:
		return fmt.Errorf("--port: want 0 to 65535, got %d", s.port)
	case s.options.MaxBody < 1:
		return fmt.Errorf("--max-body: want at least 1, got %d", s.options.MaxBody)
	case s.options.Timeout <= 0:
		return fmt.Errorf("--timeout: want more than 0, got %v", s.options.Timeout)
	case s.cache != 0 && s.cache < s.context:
		return fmt.Errorf("--cache-tokens: want at least --context (%d), got %d", s.context, s.cache)
	}
	for _, x := range []struct {
		name      string
		n, lo, hi int
	}{{"--context", s.context, 16, 1 << 24}, {"--parallel", s.sequences, 1, 1024}, {"--chunk", s.chunk, s.sequences, 1 << 16}, {"--queue", s.options.Queue, 1, 1 << 20}} {
		if x.n < x.lo || x.n > x.hi {
			return fmt.Errorf("%s: want %d to %d, got %d", x.name, x.lo, x.hi, x.n)
		}
	}
	return nil
}

func (s *serveFlags) run(cmd *cobra.Command, o *options, names []string) error {
	if err := s.check(names); err != nil {
		return err
	}
	if s.options.CodeInterpreter {
		if err := sandbox.Check(cmd.Context()); err != nil {
			return fmt.Errorf("--code-interpreter: %w", err)
		}
	}
	eng, err := o.newEngine()
	if err != nil {
		return err
	}
	defer eng.Close()
	offered := s.offered()
	if len(offered) > 0 && len(names) > 1 {
		return fmt.Errorf("--adapter NAME=DIR: want one model, got %d", len(names))
	}
	var models []*serve.Model
	for i, name := range names {
		m, shut, err := s.open(hub.Resolve(name), eng, o.quiet)
		if err != nil {
			return err
		}
		defer shut()
		m.Adapters = offered
		if m.ID = modelID(name); i < len(s.names) {
			m.ID = s.names[i]
		}
		models = append(models, m)
	}
	level := slog.LevelInfo
	if o.quiet {
		level = slog.LevelWarn
	}
	s.options.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	if key := os.Getenv("DANLU_API_KEY"); key != "" {
		s.options.Keys = append(s.options.Keys, key)
	}
	server, err := serve.New(s.options, models...)
	if err != nil {
		return err
	}
	defer server.Close()
	return s.listen(cmd.Context(), server, models)
}

// offered takes the adapters that have a name, NAME=DIR, out of those that become part of the weights, and returns the
// names.
func (s *serveFlags) offered() (names []string) {
	var merged []string
	for _, a := range s.how.adapters {
		name, dir, ok := strings.Cut(a, "=")
		if ok = ok && name != "" && !strings.ContainsAny(name, `/\`); !ok {
			merged = append(merged, a)
			continue
		}
		names, s.how.choices = append(names, name), append(s.how.choices, dir)
	}
	s.how.adapters = merged
	return names
}

func (s *serveFlags) listen(ctx context.Context, server *serve.Server, models []*serve.Model) error {
	l, err := net.Listen("tcp", net.JoinHostPort(s.host, strconv.Itoa(s.port)))
	if err != nil {
		return fmt.Errorf("--host, --port: %w", err)
	}
	log := s.options.Log
	if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() && len(s.options.Keys) == 0 {
		log.Warn("other machines can reach this server and no --api-key is asked for", "address", a.String())
	}
	for _, m := range models {
		log.Info("serving", "model", m.ID, "context", m.Runner.Context(), "url", "http://"+l.Addr().String()+"/v1")
	}
	// The first signal ends ctx; the next one has its usual effect.
	defer context.AfterFunc(ctx, func() { signal.Reset(os.Interrupt, syscall.SIGTERM) })()
	if err := server.Serve(ctx, l, s.options.Timeout); err != nil {
		return failure{err, exitFail}
	}
	return nil
}

// open loads a model; the returned function frees it.
func (s *serveFlags) open(path string, eng engine.Engine, quiet bool) (*serve.Model, func(), error) {
	m, err := openModel(path)
	if err != nil {
		return nil, nil, err
	}
	out, shut, err := s.load(path, m, eng, quiet)
	if err != nil {
		return nil, nil, errors.Join(err, m.source.Close())
	}
	return out, func() { shut(); m.source.Close() }, nil
}

func (s *serveFlags) load(path string, m *opened, eng engine.Engine, quiet bool) (_ *serve.Model, free func(), err error) {
	info := m.model.Info()
	out := &serve.Model{Created: time.Now()}
	if out.Files, err = filesOf(m.source); err != nil {
		return nil, nil, err
	}
	if st, err := os.Stat(path); err == nil {
		out.Created = st.ModTime()
	}
	if out.Tokenizer, err = tokenizerOf(path); err != nil {
		return nil, nil, err
	}
	// A base model without a template still continues texts.
	if out.Dialect, err = chat.Open(path, s.template, out.Tokenizer); err != nil && (s.template != "" || !isNoTemplate(err)) {
		return nil, nil, err
	}
	defaults, err := generate.ReadDefaults(path)
	if err != nil {
		return nil, nil, err
	}
	out.Sampling, out.End = defaults.Sampling, endTokens(info, defaults)
	if !defaults.Sampled {
		out.Sampling.Temperature = 1 // as in OpenAI's API
	}
	opts := generate.Options{Context: s.context, Sequences: s.sequences, Chunk: s.chunk, PageLen: 64}
	if info.MaxPosition > 0 {
		opts.Context = min(opts.Context, info.MaxPosition)
	}
	tokens := 2 * opts.Context
	if s.cache > 0 {
		tokens = s.cache
	}
	opts.Pages = (tokens + opts.PageLen - 1) / opts.PageLen
	var shut func()
	if out.Runner, shut, err = s.how.runner(m, eng, quiet, opts); err != nil {
		return nil, nil, err
	}
	drafter, shutDraft, err := s.draft.maker(context.Background(), eng, path, out.Runner, serve.MostGuessing, quiet)
	if err != nil {
		shut()
		return nil, nil, err
	}
	if out.Guesses = s.draft.most; drafter != nil {
		out.Drafter = func() (generate.Drafter, error) { return drafter(nil) }
	}
	if _, sees := m.model.(family.Viewer); sees {
		var unseen error
		if out.Eyes, unseen = out.Runner.Eyes(path); unseen != nil {
			fmt.Fprintf(os.Stderr, locale.Text("no pictures: %v\n", "不支持图片：%v\n"), unseen)
		}
	}
	return out, func() {
		if out.Eyes != nil {
			out.Eyes.Close()
		}
		shutDraft()
		shut()
	}, nil
}

// filesOf sums up a checkpoint's tensors.
func filesOf(src weights.Source) (serve.Files, error) {
	f := serve.Files{Format: "safetensors"}
	if strings.HasSuffix(src.Path(), ".gguf") {
		f.Format = "gguf"
	}
	kept, most := map[dtype.DType]int64{}, int64(0)
	for _, name := range src.Names() {
		d, shape, err := src.Describe(name)
		if err != nil {
			return f, err
		}
		n := int64(1)
		for _, x := range shape {
			n *= int64(x)
		}
		bytes := int64(d.Bytes(int(n)))
		f.Parameters, f.Bytes = f.Parameters+n, f.Bytes+bytes
		if kept[d] += bytes; kept[d] > most {
			f.Storage, most = strings.ToUpper(d.String()), kept[d]
		}
	}
	return f, nil
}

// modelID is a model's name in the API: ORG/NAME as it is, the last part of a path without the file type.
func modelID(name string) string {
	if _, err := os.Stat(name); err != nil {
		return name
	}
	if abs, err := filepath.Abs(name); err == nil {
		name = abs
	}
	return strings.TrimSuffix(filepath.Base(name), ".gguf")
}
