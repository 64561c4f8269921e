package main

import (
	"context"

	"github.com/spf13/pflag"

	"danlu/generate"
	"danlu/hub"
	"danlu/internal/locale"
	"danlu/vision"
)

// pictureFlags declares the flags that give a prompt pictures and videos.
func pictureFlags(f *pflag.FlagSet, images, videos *[]string, o *vision.VideoOptions) {
	f.StringArrayVar(images, "image", nil, locale.Text("picture for the prompt, in the place of <image> or in front (may be repeated)", "提示中的图片，放在 <image> 处或最前（可重复）"))
	f.StringArrayVar(videos, "video", nil, locale.Text("video for the prompt: a folder of frames, a GIF, or what ffmpeg reads (may be repeated)", "提示中的视频：帧图片目录、GIF，或 ffmpeg 能读取的文件（可重复）"))
	f.Float64Var(&o.FPS, "video-fps", 2, locale.Text("frames of a video's second that are looked at", "视频每秒取的帧数"))
	f.IntVar(&o.Frames, "video-frames", 128, locale.Text("most frames of a video that are looked at", "每个视频最多取的帧数"))
}

// eyes open the model's vision tower; name is the model's folder.
func (l *loaded) eyes(name string) (*generate.Eyes, error) {
	if err := l.wait(); err != nil {
		return nil, err
	}
	return generate.NewEyes(l.engine, l.store, l.model, hub.Resolve(name), l.opts)
}

// seen looks at picture and video files.
func seen(ctx context.Context, eyes *generate.Eyes, images, videos []string, o vision.VideoOptions) (p, v []*generate.Seen, err error) {
	for _, path := range images {
		img, err := vision.Load(path)
		if err != nil {
			return nil, nil, err
		}
		s, err := eyes.Picture(ctx, img)
		if err != nil {
			return nil, nil, err
		}
		p = append(p, s)
	}
	for _, path := range videos {
		video, err := vision.LoadVideo(ctx, path, o)
		if err != nil {
			return nil, nil, err
		}
		s, err := eyes.Video(ctx, video)
		if err != nil {
			return nil, nil, err
		}
		v = append(v, s)
	}
	return p, v, nil
}
