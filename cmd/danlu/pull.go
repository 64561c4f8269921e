package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"danlu/family"
	"danlu/hardware"
	"danlu/hub"
	"danlu/internal/locale"
	"danlu/internal/progress"
)

func init() { verbs = append(verbs, newPull) }

func newPull(o *options) *cobra.Command {
	var from, revision string
	var include []string
	cmd := &cobra.Command{
		Use:   "pull ORG/NAME",
		Short: locale.Text("Download a model from the Hugging Face hub or ModelScope", "从 Hugging Face 或 ModelScope（魔搭）下载模型"),
		Long: locale.Text(`The model goes into the cache that the hub's own programs use (HF_HOME, HF_HUB_CACHE; MODELSCOPE_CACHE), so that they
find it too, and every verb takes ORG/NAME for it from then on. Broken downloads are continued, every file is checked
against the hub's checksum. HF_ENDPOINT and MODELSCOPE_DOMAIN name a mirror, HF_TOKEN and MODELSCOPE_API_TOKEN the account,
HF_HUB_OFFLINE=1 forbids the network, USE_MODELSCOPE_HUB=1 makes ModelScope the default.`,
			`模型存入各平台工具共用的缓存（HF_HOME、HF_HUB_CACHE；MODELSCOPE_CACHE），此后所有子命令都可以直接使用 ORG/NAME。
支持断点续传，每个文件按平台的校验和核对。HF_ENDPOINT 与 MODELSCOPE_DOMAIN 指定镜像，HF_TOKEN 与 MODELSCOPE_API_TOKEN 指定账号，
HF_HUB_OFFLINE=1 禁止联网，USE_MODELSCOPE_HUB=1 默认使用 ModelScope。`),
		Example: "  danlu pull Qwen/Qwen3-0.6B\n  danlu pull Qwen/Qwen3-0.6B --hub modelscope\n  danlu pull org/name-GGUF --include '*q4_k_m*'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, err := hub.ParseKind(from)
			if err != nil {
				return err
			}
			c, err := hub.New(kind)
			if err != nil {
				return err
			}
			if dir, ok := hub.Find(args[0]); ok && c.Offline {
				return pulledTo(o, &hub.Repo{ID: args[0]}, dir)
			}
			r, err := c.Lookup(cmd.Context(), args[0], revision)
			if errors.Is(err, hub.ErrUnreachable) {
				return failure{err, exitFail}
			}
			if err != nil {
				return err
			}
			if err := r.Select(include); err != nil {
				return err
			}
			if err := announce(o, c, r); err != nil {
				return err
			}
			bar := progress.New(os.Stderr, progress.Options{Label: locale.Text("downloading", "下载"), Quiet: o.quiet || o.json, Chinese: locale.Chinese()})
			dir, err := c.Pull(cmd.Context(), r, func(done, total int64) {
				bar.SetTotal(total)
				bar.Update(done)
			})
			bar.Done()
			if err != nil {
				return failure{err, exitFail}
			}
			return pulledTo(o, r, dir)
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "hub", "", locale.Text("huggingface or modelscope", "huggingface 或 modelscope"))
	f.StringVar(&revision, "revision", "", locale.Text("branch, tag or commit", "分支、标签或提交"))
	f.StringArrayVar(&include, "include", nil, locale.Text("only files that match; may be given several times", "只下载匹配的文件，可重复"))
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}

// announce shows what will be downloaded, under which licence, and whether there is room for it.
func announce(o *options, c *hub.Client, r *hub.Repo) error {
	missing := c.Missing(r)
	if err := os.MkdirAll(c.Cache, 0o755); err != nil {
		return fmt.Errorf("hub: %w", err)
	}
	free, known := hardware.FreeDisk(c.Cache)
	license := family.LicenseByID(r.License, string(c.Kind))
	if r.License == "" {
		license = family.LicenseOf(r.ID, "")
	}
	if !o.quiet && !o.json {
		room := locale.Text("unknown", "未知")
		if known {
			room = progress.Bytes(free)
		}
		fmt.Fprintf(os.Stderr, locale.Text("%s: %s in %d files, %s to download; %s free at %s\nlicence: %s: %s\n", "%s：%s，%d 个文件，需下载 %s；%s 可用（%s）\n许可证：%s：%s\n"),
			r.ID, progress.Bytes(r.Bytes()), len(r.Files), progress.Bytes(missing), room, c.Cache, license.Name, license.Commercial.Text())
	}
	if known && missing > free {
		return fmt.Errorf("hub: %s: want %s of disk, %s are free at %s; set HF_HOME (MODELSCOPE_CACHE) to a place with more", r.ID, progress.Bytes(missing), progress.Bytes(free), c.Cache)
	}
	return nil
}

func pulledTo(o *options, r *hub.Repo, dir string) error {
	if o.json {
		return printJSON(map[string]any{"id": r.ID, "path": dir, "revision": r.Commit, "bytes": r.Bytes(), "license": r.License})
	}
	fmt.Println(dir)
	return nil
}
