"""Refusals and replies in languages other than English, as regular expressions by ISO 639-1 code.

A customer who cannot do something uses the same words as a model that refuses ("I can't log in"). So each refusal
names what a model will not do (help, write such a text, fulfil a request) or what it is (an AI, a language model)."""

from __future__ import annotations

REFUSALS: dict[str, tuple[str, ...]] = {
    "de": (
        r"\btut mir leid,? (?:aber )?(?:ich kann|dabei|das kann)\b.{0,60}\b(?:nicht|keine)\b",
        r"\bich kann (?:dir |ihnen )?(?:dabei|bei dieser anfrage|diese anfrage) (?:leider )?nicht\b",
        r"\bich kann (?:dir |ihnen |leider )*(?:nicht|keine|diese[rn]?|solche)\b[^.!?\n]{0,40}"
        r"\b(?:anfrage|inhalte?|aufforderung)\b",
        r"\b(?:ich|und) (?:darf|kann|werde) (?:leider )?(?:keine|solche|diese|derartige)n? (?:solchen? )?"
        r"(?:inhalte?|texte?)\b",
        r"\b(?:kann ich|ich kann)(?: (?!mir\b)\w+){0,6}? nicht(?: \w+){0,3}? (?:(?:weiter)?helfen|behilflich sein)\b",
        r"\b(?:als|bin) (?:nur )?(?:eine? )?(?:ki|künstliche intelligenz|sprachmodell)\b",
        r"\b(?:bei|mit) (?:diese[rmn]|solche[rmn]?) (?:anfrage|bitte|thema|themen|inhalte?n?) kann ich\b"
        r"[^.!?\n]{0,30}\bnicht\b",
        r"\bgegen (?:meine|unsere|die) (?:\w+ )?(?:richtlinien|nutzungsbedingungen|programmierung)\b",
    ),
    "es": (
        r"\blo siento,? (?:pero )?no puedo (?:ayudar|cumplir|crear|generar|escribir|proporcionar)",
        r"\bno puedo (?:ayudar|cumplir|crear|generar|escribir|proporcionar)[^.!?\n]{0,40}"
        r"\b(?:solicitud|petición|contenido)",
        r"\bcomo (?:una? )?(?:ia|inteligencia artificial|modelo de lenguaje)\b",
    ),
    "fr": (
        r"\bdésolée?,? (?:mais )?je ne peux pas (?:vous |t')?(?:aider|répondre|créer|écrire|fournir|générer)",
        r"\bje ne (?:peux|suis) pas [^.!?\n]{0,30}\b(?:aider|répondre|créer|écrire|fournir|générer)"
        r"[^.!?\n]{0,40}\b(?:demande|requête|contenu)",
        r"\ben tant qu(?:'|’)(?:ia|intelligence artificielle|assistante?|une? modèle)\b",
    ),
    "it": (r"\bmi dispiace,? (?:ma )?non posso (?:aiutar|fornire|creare|scrivere|generare|soddisfare)",),
    "nl": (r"\bik kan (?:hier|daar|niet|geen)\b[^.!?\n]{0,40}\b(?:verzoek|inhoud|bij helpen)\b",),
    "pl": (r"\bprzepraszam,? (?:ale )?nie mogę (?:pomóc|spełnić|stworzyć|napisać|wygenerować)",),
    "pt": (r"\b(?:sinto muito|desculpe),? (?:mas )?não posso (?:ajudar|criar|gerar|escrever|fornecer)",),
    "ru": (
        r"\b(?:извините|простите|к сожалению),? (?:но )?я не могу "
        r"(?:помочь|выполнить|создать|написать|ответить|предоставить)",
        r"\bкак (?:языковая модель|ии|искусственный интеллект)\b",
        r"\bне могу (?:помочь|создать|написать|сгенерировать)[^.!?\n]{0,20}\b(?:запрос|просьб|контент)",
    ),
    "tr": (r"\büzgünüm,? [^.!?\n]{0,60}\b(?:yardımcı olamam|oluşturamam|yazamam)",),
    "ar": (
        r"(?:لا أستطيع|لا يمكنني|لا أقدر)(?: على)? (?:ال)?(?:مساعدة|مساعدتك|مساعدتكم|تلبية|تنفيذ|الإجابة)",
        r"(?:لا أستطيع|لا يمكنني) (?:كتابة|إنشاء|توليد|تقديم) (?:مثل )?(?:هذا|هذه|ذلك|تلك|محتوى)",
        r"(?:بصفتي|باعتباري|كوني) (?:نموذج|مساعد|ذكاء|روبوت)",
    ),
    "hi": (
        r"(?:मदद|सहायता) (?:नहीं कर सक|करने में असमर्थ)",
        r"अनुरोध[^।!?\n]{0,10}(?:पूरा नहीं कर सक|पूरा करने में असमर्थ)",
        r"(?:ऐसी|ऐसा|यह|इस तरह की) (?:सामग्री|पाठ|लेख|संदेश)[^।!?\n]{0,6} नहीं (?:लिख|बना|तैयार कर) सक",
        r"(?:एआई|\bai\b|भाषा मॉडल|कृत्रिम बुद्धिमत्ता)[^।!?\n]{0,15}(?:के रूप में|होने के नाते|हूँ)",
    ),
    "ja": (
        r"(?:お手伝い|お答え|お応え|お受け|ご?回答|ご?協力|ご?対応|作成|生成|提供|執筆)(?:する|に応じる)?(?:こと)?(?:は|が|も)?"
        r"(?:できません|できかねます|いたしかねます|致しかねます|しかねます)",
        r"(?:お応え|お答え|応じ)(?:する|る)?(?:こと(?:は|が))?(?:できません|られません|かねます)",
        r"(?:その|この)(?:よう)?な?(?:内容|文章|文|テキスト|もの)(?:を|は)(?:書|作)(?:く|る|け|れ)(?:こと(?:は|が))?(?:でき)?ません",
        r"(?:ポリシー|ガイドライン)に(?:違反|反)[^。\n]{0,20}(?:できません|かねます)",
        r"(?:ai|人工知能|言語モデル)(?:アシスタント|モデル)?(?:として|ですので|なので|であるため)",
    ),
    "ko": (
        r"죄송[^!?\n]{0,40}(?:도와드릴|작성해 ?드릴|작성할|생성할|제공할|응할|응해 ?드릴) ?수 ?(?:는 |가 )?없",
        r"(?:그런|이런|이러한|해당) (?:내용|요청|글)[^.!?\n]{0,8}(?:작성|생성|제공|응)[^.!?\n]{0,5} ?수 ?없",
        r"(?:ai|인공지능|언어 ?모델)(?:로서|이기 때문에|이므로)",
    ),
    "zh": (
        r"(?:抱歉|对不起|對不起)[^。\n]{0,10}(?:无法|不能|無法)(?:协助|帮|提供|满足|生成|创建|撰写|写|完成|回答|处理|協助|幫|寫)",
        r"(?:作为|身为|作為)(?:一个|一名|一個)?(?:ai|人工智能|人工智慧|语言模型|語言模型)",
        r"我(?:无法|不能|無法)(?:协助|提供|满足|生成|创建|撰写|協助)",
    ),
}
REPLIES: dict[str, tuple[str, ...]] = {
    "de": (
        r"\A(?:sehr geehrter? kund|liebe[r]? kund)",
        r"\bvielen dank für (?:ihre|ihren|deine|deinen) "
        r"(?:nachricht|anfrage|bestellung|geduld|mitteilung|rückmeldung)",
        r"\bwie kann ich (?:ihnen|dir)(?: \w+){0,3}? (?:weiter)?helfen\b",
        r"\bes tut (?:mir|uns) (?:sehr |wirklich )?leid,? (?:zu hören|dass (?:sie|du|ihre?|deine?)\b)",
        r"\bwir (?:entschuldigen uns|bitten (?:sie )?um entschuldigung|kümmern uns (?:\w+ )?darum)",
    ),
    "fr": (
        r"\A(?:chère?s? client)",
        r"\bmerci (?:de nous avoir contactée?s|pour votre (?:message|demande|commande|patience))",
        r"\bcomment puis-je vous aider\b",
    ),
    "es": (
        r"\Aestimad[oa]s? client",
        r"\bgracias por (?:contactarnos|ponerse en contacto|su (?:mensaje|consulta|pedido|paciencia))",
        r"(?:cómo|en qué) puedo ayudar(?:le|te|lo|la)\b",
    ),
    "it": (r"\Agentile client",),
    "ru": (
        r"\A(?:уважаем(?:ый|ая|ые)) (?:клиент|покупател|пользовател)",
        r"\b(?:спасибо|благодарим)(?: вас)? за (?:ваше )?обращение",
        r"\bчем (?:я )?могу (?:вам )?помочь",
    ),
    "ar": (
        r"شكر[اً]+ (?:لتواصل|لاتصال|على تواصل)",
        r"\Aعزيز(?:ي|تي) العميل",
        r"كيف يمكنني مساعدت",
    ),
    "hi": (
        r"संपर्क करने के लिए (?:आपका )?धन्यवाद",
        r"\Aप्रिय ग्राहक",
        r"आपकी (?:क्या |कैसे |किस प्रकार )?(?:सहायता|मदद) (?:कैसे )?कर सक",
    ),
    "ja": (
        r"\A[^。\n]{0,15}(?:お問い合わせ|ご質問|ご注文|ご利用)[^。\n]{0,12}ありがとうございます",
        r"ご(?:不便|迷惑)を(?:お掛け|おかけ)し",
        r"(?:何か|どのような)[^。\n]{0,10}お(?:手伝い|力になれ)",
        r"(?:少々|しばらく)お待ちください",
        r"\A[^\n]{0,30}(?:カスタマー)?サポート(?:センター)?(?:担当)?(?:の[^。、\n]{1,8})?(?:です|でございます)",
    ),
    "ko": (
        r"(?:문의|연락)(?:해)? ?주셔서 감사",
        r"무엇을 도와드릴까요",
    ),
    "zh": (
        r"(?:感谢|谢谢|感謝|謝謝)您的(?:来信|咨询|留言|耐心|理解|订购|反馈|來信)",
        r"(?:有什么|请问)[^。\n]{0,8}(?:可以)?帮(?:助)?到?您",
        r"\A(?:尊敬的|亲爱的|親愛的)(?:客户|用户|顾客|客戶|顧客)",
    ),
}
