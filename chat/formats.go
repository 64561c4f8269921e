package chat

// text is a slot list of one text.
func text(s string) []slot { return []slot{{text: s}} }

// chatML is the format of Qwen, Yi and ChatML.
func chatML(name string, change func(*spec)) spec {
	s := spec{
		name:      name,
		user:      text("<|im_start|>user\n{{content}}<|im_end|>\n<|im_start|>assistant\n"),
		assistant: text("{{content}}<|im_end|>\n"),
		system:    text("<|im_start|>system\n{{content}}<|im_end|>\n"),
		stop:      []string{"<|im_end|>"},
	}
	change(&s)
	return s
}

// qwen is ChatML with Qwen's tools and the end of a message as the end token.
func qwen(name string, change func(*spec)) spec {
	return chatML(name, func(s *spec) {
		s.observation = text("<|im_start|>user\n<tool_response>\n{{content}}\n</tool_response><|im_end|>\n<|im_start|>assistant\n")
		s.tools, s.replaceEOS = "qwen", true
		change(s)
	})
}

// glm is the format of GLM-4.
func glm(name string, reasoning bool) spec {
	return spec{
		name:         name,
		user:         text("<|user|>\n{{content}}<|assistant|>"),
		assistant:    text("\n{{content}}"),
		system:       text("<|system|>\n{{content}}"),
		function:     contentSlots,
		observation:  text("<|observation|>\n{{content}}<|assistant|>"),
		prefix:       text("[gMASK]<sop>"),
		tools:        "glm4",
		stop:         []string{"<|user|>", "<|observation|>"},
		efficientEOS: true,
		reasoning:    reasoning,
	}
}

// llama2 puts the system text inside the first question (arXiv:2307.09288, appendix A.3.3).
func llama2(name, system string) spec {
	return spec{
		name:          name,
		user:          []slot{{bos: true}, {text: "[INST] {{content}} [/INST]"}},
		system:        text("<<SYS>>\n{{content}}\n<</SYS>>\n\n"),
		defaultSystem: system,
		systemInUser:  true,
	}
}

func deepseek(name string, reasoning bool) spec {
	return spec{name: name, user: text("<｜User｜>{{content}}<｜Assistant｜>"), prefix: []slot{{bos: true}}, reasoning: reasoning}
}

// yiPicture is the id that stands for a picture in Yi-VL's prompts, which is none of its vocabulary's.
const yiPicture = -200

// specs are the formats as LLaMA-Factory 0.9.5 defines them, and belle, chatglm2, baichuan and baichuan2, which that
// release dropped, as 0.9.4 does. chatglm, which it never had, is ChatGLM-6B's own.
var specs = []spec{
	{
		name:      "default",
		user:      []slot{{text: "Human: {{content}}"}, {eos: true}, {text: "\nAssistant:"}},
		assistant: []slot{{text: "{{content}}"}, {eos: true}, {text: "\n"}},
		system:    []slot{{text: "System: {{content}}"}, {eos: true}, {text: "\n"}},
	},
	{name: "empty", user: contentSlots, assistant: contentSlots},
	{
		name:          "alpaca",
		user:          text("### Instruction:\n{{content}}\n\n### Response:\n"),
		assistant:     []slot{{text: "{{content}}"}, {eos: true}, {text: "\n\n"}},
		defaultSystem: "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n",
	},
	{
		name: "vicuna",
		user: text("USER: {{content}} ASSISTANT:"),
		defaultSystem: "A chat between a curious user and an artificial intelligence assistant. " +
			"The assistant gives helpful, detailed, and polite answers to the user's questions.",
	},
	{
		name:      "belle",
		user:      text("Human: {{content}}\n\nBelle: "),
		assistant: []slot{{text: "{{content}}"}, {eos: true}, {text: "\n\n"}},
		prefix:    []slot{{bos: true}},
	},
	llama2("llama2", ""),
	llama2("llama2_zh", "You are a helpful assistant. 你是一个乐于助人的助手。"),
	{
		name:        "llama3",
		user:        text("<|start_header_id|>user<|end_header_id|>\n\n{{content}}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"),
		assistant:   text("{{content}}<|eot_id|>"),
		system:      text("<|start_header_id|>system<|end_header_id|>\n\n{{content}}<|eot_id|>"),
		observation: text("<|start_header_id|>ipython<|end_header_id|>\n\n{{content}}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"),
		prefix:      []slot{{bos: true}},
		tools:       "llama3",
		stop:        []string{"<|eot_id|>", "<|eom_id|>"},
		replaceEOS:  true,
	},
	{name: chatGLM6B, suffix: []slot{{token: "[gMASK]"}, {token: "<sop>"}}},
	{
		name:         "chatglm2",
		user:         text("[Round {{idx}}]\n\n问：{{content}}\n\n答："),
		prefix:       []slot{{token: "[gMASK]"}, {token: "sop"}},
		efficientEOS: true,
	},
	{
		name:         "chatglm3",
		user:         []slot{{token: "<|user|>"}, {text: "\n"}, {text: "{{content}}"}, {token: "<|assistant|>"}},
		assistant:    []slot{{text: "\n"}, {text: "{{content}}"}},
		system:       []slot{{token: "<|system|>"}, {text: "\n"}, {text: "{{content}}"}},
		function:     contentSlots,
		observation:  []slot{{token: "<|observation|>"}, {text: "\n"}, {text: "{{content}}"}, {token: "<|assistant|>"}},
		prefix:       []slot{{token: "[gMASK]"}, {token: "sop"}},
		tools:        "glm4",
		stop:         []string{"<|user|>", "<|observation|>"},
		efficientEOS: true,
	},
	glm("glm4", false),
	glm("glmz1", true),
	{
		name:         "baichuan",
		user:         []slot{{token: "<reserved_102>"}, {text: "{{content}}"}, {token: "<reserved_103>"}},
		efficientEOS: true,
	},
	{name: "baichuan2", user: text("<reserved_106>{{content}}<reserved_107>"), efficientEOS: true},
	qwen("qwen", func(s *spec) {
		s.defaultSystem = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
	}),
	qwen("qwen3", func(s *spec) { s.reasoning = true }),
	qwen("qwen3_nothink", func(*spec) {}),
	qwen("qwen2_vl", func(s *spec) {
		s.defaultSystem = "You are a helpful assistant."
		s.sees = &sees{picture: text("<|vision_start|><|image_pad|><|vision_end|>"), video: text("<|vision_start|><|video_pad|><|vision_end|>")}
	}),
	chatML("yi", func(*spec) {}),
	{
		name:      "yi_vl",
		user:      text("### Human: {{content}}\n### Assistant:"),
		assistant: text("{{content}}\n"),
		defaultSystem: "This is a chat between an inquisitive human and an AI assistant. " +
			"Assume the role of the AI assistant. Read all the images carefully, " +
			"and respond to the human's questions with informative, helpful, detailed and polite answers. " +
			"这是一个好奇的人类和一个人工智能助手之间的对话。假设你扮演这个AI助手的角色。" +
			"仔细阅读所有的图像，并对人类的问题做出信息丰富、有帮助、详细的和礼貌的回答。\n\n",
		stop:         []string{"###"},
		efficientEOS: true,
		sees:         &sees{picture: []slot{{id: yiPicture}}, line: true},
	},
	{
		name:   "deepseek",
		user:   text("User: {{content}}\n\nAssistant:"),
		system: text("{{content}}\n\n"),
		prefix: []slot{{bos: true}},
	},
	deepseek("deepseek3", false),
	deepseek("deepseekr1", true),
	chatML("chatml", func(s *spec) {
		s.observation = text("<|im_start|>tool\n{{content}}<|im_end|>\n<|im_start|>assistant\n")
		s.stop, s.replaceEOS = []string{"<|im_end|>", "<|im_start|>"}, true
	}),
}
