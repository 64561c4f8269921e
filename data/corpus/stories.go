package corpus

import "strings"

func words(list string) []string { return strings.Fields(strings.ReplaceAll(list, "\n", " ")) }

func phrases(list string) []string {
	var out []string
	for _, p := range strings.Split(list, ",") {
		out = append(out, strings.TrimSpace(p))
	}
	return out
}

// english tells of somebody who finds or loses something, or learns something from a friend.
var english = (&grammar{
	start: "<opening> <habit> <plot> <end>",
	parts: map[string][]string{
		"opening": {
			"Once upon a time, there was a {trait} {animal} named {name}.",
			"In a {look} {place}, there lived a {trait} {animal} named {name}.",
			"{name} was a {trait} {animal} who lived near a {look} {place}.",
			"Long ago, a {trait} {animal} named {name} lived by the {place}.",
		},
		"habit": {
			"Every {time}, {name} liked to {hobby}.",
			"{name} loved to {hobby} in the {time}.",
			"More than anything, {name} wanted to {hobby}.",
		},
		"plot":  {"<find>", "<lose>", "<learn>"},
		"find":  {"<found> <share>"},
		"found": {"One day, {name} found a {color} {thing} under a {spot}.", "One {weather} day, {name} saw a {color} {thing} behind a {spot}."},
		"share": {
			"{name} showed the {thing} to {friend} the {animal2}. \"What a {look2} {thing}!\" said {friend}. They played with it together.",
			"\"Is this {thing} yours?\" {name} asked {friend} the {animal2}. \"Yes, it is my {thing}!\" said {friend}. {name} gave it back.",
		},
		"lose": {"<lost> <seek>"},
		"lost": {"One day, {name} lost a {color} {thing}.", "But one {weather} day, the {color} {thing} that {name} loved was gone."},
		"seek": {
			"{name} looked under the {spot}, but it was not there. Then {friend} the {animal2} came to help. {friend} found the {thing} behind the {spot2}.",
			"{name} felt {mood} and began to cry. \"Do not cry,\" said {friend} the {animal2}. \"Your {thing} is behind the {spot}!\"",
		},
		"learn": {"<meet> <lesson>"},
		"meet":  {"One {weather} day, {name} met {friend} the {animal2}.", "At the {place2}, {name} met a {trait2} {animal2} named {friend}."},
		"lesson": {
			"{friend} wanted to {hobby2}, but did not know how. \"I will help you,\" said {name}. Soon {friend} could {hobby2} very well.",
			"\"Can you {hobby2}?\" asked {friend}. {name} tried once and fell. {name} tried again and again, and at last it worked.",
		},
		"end": {
			"From that day on, {name} and {friend} were good friends.",
			"{name} was very {joy}, and so was {friend}.",
			"{name} and {friend} went home and had {food} for dinner.",
			"That night, {name} and {friend} slept well and dreamed of {food}.",
		},
	},
	words: map[string][]string{
		"name":    words("Lily Tom Ben Mia Sam Anna Max Lucy Leo Ella Jack Rosie Tim Sue Finn Zoe Oscar Ruby Nina Hugo"),
		"friend":  words("Pip Momo Dot Gus Ivy Rex Bea Otto Fay Kit Wren Juno Basil Clem Poppy Milo"),
		"animal":  words("cat dog fox bear rabbit mouse bird frog duck pig horse goat lion turtle squirrel hedgehog"),
		"trait":   words("small big brave shy kind clever happy lazy funny quiet curious gentle young proud"),
		"look":    words("green quiet sunny dark pretty cozy tiny bright warm windy"),
		"place":   words("forest garden river hill farm lake village beach park meadow"),
		"time":    words("morning evening afternoon spring summer autumn winter"),
		"hobby":   phrases("run fast, sing songs, climb trees, read books, paint pictures, dance, swim, fly a kite, bake cakes, tell jokes, jump high, plant flowers"),
		"weather": words("sunny rainy windy cold warm snowy cloudy foggy"),
		"color":   words("red blue yellow green white black pink purple golden silver"),
		"thing":   words("ball hat key box kite cup bell book drum shell ring boat lamp coat"),
		"spot":    words("tree rock bench bush table bridge chair fence log door"),
		"mood":    words("sad tired lonely scared angry"),
		"joy":     words("happy glad proud excited thankful"),
		"food":    words("soup bread apples cake honey cheese pie rice nuts berries"),
	},
}).check()

// chinese tells the same kinds of stories.
var chinese = (&grammar{
	start: "<opening><habit><plot><end>",
	parts: map[string][]string{
		"opening": {
			"从前，有一只{trait}的{animal}，名叫{name}。",
			"在一片{look}的{place}旁，住着一只{trait}的{animal}，它叫{name}。",
			"{name}是一只{trait}的{animal}，住在{look}的{place}旁边。",
			"很久以前，{place}边住着一只名叫{name}的{trait}的{animal}。",
		},
		"habit": {
			"每到{time}，{name}就喜欢{hobby}。",
			"{name}最喜欢在{time}{hobby}。",
			"{name}最大的愿望就是{hobby}。",
		},
		"plot":  {"<find>", "<lose>", "<learn>"},
		"find":  {"<found><share>"},
		"found": {"有一天，{name}在{spot}下面发现了一个{color}{thing}。", "一个{weather}的日子，{name}在{spot}后面看见了一个{color}{thing}。"},
		"share": {
			"{name}把{thing}拿给{animal2}{friend}看。“多么{look2}的{thing}啊！”{friend}说。它们一起玩了起来。",
			"“这个{thing}是你的吗？”{name}问{animal2}{friend}。“是的，这是我的{thing}！”{friend}说。{name}把它还给了{friend}。",
		},
		"lose": {"<lost><seek>"},
		"lost": {"有一天，{name}丢了一个{color}{thing}。", "可是在一个{weather}的日子，{name}心爱的{color}{thing}不见了。"},
		"seek": {
			"{name}看了看{spot}下面，什么也没有。这时{animal2}{friend}来帮忙。{friend}在{spot2}后面找到了{thing}。",
			"{name}觉得很{mood}，哭了起来。“别哭，”{animal2}{friend}说，“你的{thing}在{spot}后面！”",
		},
		"learn": {"<meet><lesson>"},
		"meet":  {"一个{weather}的日子，{name}遇见了{animal2}{friend}。", "在{place2}，{name}遇见了一只{trait2}的{animal2}，它叫{friend}。"},
		"lesson": {
			"{friend}想学{hobby2}，可是不会。“我来帮你，”{name}说。不久，{friend}就学会了{hobby2}。",
			"“你会{hobby2}吗？”{friend}问。{name}试了一次，摔倒了。{name}试了一次又一次，最后终于成功了。",
		},
		"end": {
			"从那天起，{name}和{friend}成了好朋友。",
			"{name}非常{joy}，{friend}也一样。",
			"{name}和{friend}回到家，晚饭吃了{food}。",
			"那天夜里，{name}和{friend}睡得很香，梦见了{food}。",
		},
	},
	words: map[string][]string{
		"name":    words("小明 小红 乐乐 豆豆 圆圆 明明 丽丽 贝贝 天天 安安 多多 球球 果果 奇奇 芳芳 强强 毛毛 亮亮 甜甜 笑笑"),
		"friend":  words("阿福 点点 嘟嘟 咪咪 阿黄 小雨 青青 阿宝 朵朵 石头 米米 阿亮 花花 宝宝 叮当 小满"),
		"animal":  words("小猫 小狗 狐狸 小熊 兔子 老鼠 小鸟 青蛙 鸭子 小猪 小马 山羊 狮子 乌龟 松鼠 刺猬"),
		"trait":   words("小小 高大 勇敢 害羞 善良 聪明 快乐 懒惰 有趣 安静 好奇 温柔 年轻 骄傲"),
		"look":    words("绿色 宁静 明亮 古老 美丽 温暖 干净 奇妙 小巧 热闹"),
		"place":   words("森林 花园 小河 山坡 农场 湖泊 村庄 海滩 公园 草地"),
		"time":    words("早上 傍晚 下午 春天 夏天 秋天 冬天"),
		"hobby":   words("跑步 唱歌 爬树 看书 画画 跳舞 游泳 放风筝 做蛋糕 讲笑话 跳绳 种花"),
		"weather": words("晴朗 下雨 刮风 寒冷 温暖 下雪 多云 有雾"),
		"color":   words("红色的 蓝色的 黄色的 绿色的 白色的 黑色的 粉色的 紫色的 金色的 银色的"),
		"thing":   words("皮球 帽子 钥匙 盒子 风筝 杯子 铃铛 书包 小鼓 贝壳 戒指 小船 台灯 外套"),
		"spot":    words("大树 石头 长椅 草丛 桌子 小桥 椅子 篱笆 木头 木门"),
		"mood":    words("难过 疲倦 孤单 害怕 生气"),
		"joy":     words("高兴 开心 自豪 激动 感激"),
		"food":    words("热汤 面包 苹果 蛋糕 蜂蜜 奶酪 馅饼 米饭 坚果 草莓"),
	},
}).check()
