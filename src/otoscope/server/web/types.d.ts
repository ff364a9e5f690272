// What the API says (mirrors server/shapes.py); global, so that JSDoc can name them.

interface ModelInfo {
  name: string; n_layers: number; d_model: number; n_heads: number; d_mlp: number; n_mels: number;
  window_s: number; vocabulary: number; device: string; sites: string[];
}
interface AtlasSummary {
  name: string; site: string; kind: string; corpus: string;
  n_features: number; n_alive: number; n_labelled: number; n_frames: number; n_clips: number;
}
interface CorpusSummary { name: string; n_clips: number; duration_s: number; n_speakers: number; tiers: string[] }
interface LabelCount { label: string; kind: string; n_features: number; best_f1: number | null }
interface Overview {
  workspace: string; version: string; model: ModelInfo; atlases: AtlasSummary[]; corpora: CorpusSummary[];
  labels: LabelCount[]; natures: string[]; statistics: string[]; max_upload_bytes: number;
}
interface FeatureRow {
  atlas: string; index: number; unit: string; label: string | null; label_kind: string | null;
  f1: number | null; f1_low: number | null; f1_high: number | null; ap: number | null;
  density: number; max: number; dead: boolean; histogram: number[];
  sentence: string | null; nature: string | null;
}
interface Facet { value: string; kind: string | null; count: number }
interface FeaturePage {
  total: number; offset: number; rows: FeatureRow[]; sorted_by: (number | null)[]; found_by: string[][]; note: string | null; facets: Record<string, Facet[]>;
}
interface LabelScore {
  label: string; kind: string; f1: number | null; f1_low: number | null; f1_high: number | null;
  ap: number | null; auroc: number | null; chance: number | null; p_value: number | null;
  precision: number | null; recall: number | null;
}
interface Interval { start_s: number; end_s: number; label: string }
interface ClipInfo {
  id: string; corpus: string; version: string; title: string; duration_s: number; text: string | null; speaker: string | null;
  language: string | null; attributes: Record<string, string>; tiers: Record<string, Interval[]>;
}
interface ExampleInfo { clip: ClipInfo; time_s: number; value: number; decile: number | null }
interface FeatureName { atlas: string; index: number; unit: string; label: string | null; label_kind: string | null }
interface Related { feature: FeatureName; value: number; share: number | null }
interface BandScore {
  labels: string[]; kind: string; low: number; high: number | null; f1: number | null; f1_low: number | null;
  f1_high: number | null; chance: number | null; precision: number | null; recall: number | null;
}
interface Acoustic { name: string; correlation: number; low: number | null; high: number | null; partial: number | null }
interface HistogramInfo { edges: number[]; counts: number[] }
interface Stack { label: string | null; kind: string | null; counts: number[] }
interface FeatureInfo {
  row: FeatureRow; site: string; kind: string; corpus: string; n_frames: number; n_features: number;
  mean: number | null; opposite: number | null; previous: number | null; next: number | null;
  labels: LabelScore[]; bands: BandScore[]; unions: BandScore[]; label_share: number; histogram: HistogramInfo; opposite_histogram: HistogramInfo | null;
  profile: number[]; neighbours: Related[]; cofiring: Related[]; acoustics: Acoustic[]; examples: Record<string, ExampleInfo[]>;
}
interface Rung {
  rung: 1 | 2 | 3; method: "label" | "sound" | "language model"; name: string; explanation: string;
  verdict: "supported" | "not supported" | "not tried"; why: string; trial: string | null;
  model: string | null; endpoint: string | null; asked_at: string | null; confidence: number | null; balanced_accuracy: number | null; null: number | null; lift: number | null;
  n_active: number | null; n_silent: number | null; n_null: number | null;
}
interface InterpretationInfo { rungs: Rung[]; note: string; written: string | null; command: string; problems: string[] }
interface ClipPage { total: number; offset: number; clips: ClipInfo[] }
interface MatchInfo {
  feature: FeatureName; score: number; correlation: number; iou: number; cosine: number | null; mutual: boolean;
}
interface RegionFeature {
  feature: FeatureRow; frames: number; share: number; density: number; lift: number; above: number; score: number;
  q_value: number; max: number; peak_time_s: number;
}
interface RegionInfo { atlas: string; start_s: number; end_s: number; n_frames: number; features: RegionFeature[] }
interface MomentInfo {
  clip: ClipInfo; start_s: number; end_s: number; time_s: number; value: number | null; similarity: number | null;
  shared: FeatureName[];
}
interface MomentPage {
  n_frames: number; n_clips: number; n_moments: number; complete_from: number; offset: number; moments: MomentInfo[];
}
interface TokenInfo { id: number; text: string; log_prob: number }
interface TranscriptInfo {
  text: string; language: string | null; tokens: TokenInfo[]; avg_log_prob: number | null; no_speech_prob: number | null;
}
interface EditItem {
  feature?: string; site?: string; units?: number[]; op: "zero" | "scale" | "add" | "clamp"; value: number;
  time_s?: [number, number];
}
interface WordChange { change: "same" | "replaced" | "removed" | "added"; base: string[]; edited: string[] }
interface TokenChange { text: string; log_prob: number; edited_log_prob: number; delta: number }
interface EditResult {
  base: TranscriptInfo; edited: TranscriptInfo; words: WordChange[]; tokens: TokenChange[];
}
interface EvidenceInfo { clip_id: string | null; start_s: number | null; end_s: number | null; reference: string | null }
interface VersionInfo {
  revision: string; editor: string; edited: string; text: string; confidence: number | null; evidence: EvidenceInfo[];
  about: string | null; blind: boolean; deleted: boolean;
}
interface NoteInfo {
  id: string; atlas: string | null; dictionary: string; index: number; kind: string; author: string; created: string;
  reply_to: string | null; current: VersionInfo; versions: VersionInfo[];
}
interface NotesInfo { notes: NoteInfo[]; revealed: boolean; hidden: number }
